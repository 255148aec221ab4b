"""Plan a run: decide what it will do, and report it before the run begins."""
