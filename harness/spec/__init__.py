"""The specification of a run: suites, their trials, and the names of their rows."""
