"""Everything that a GPU has to show, as one command: ``python -m tests.gpu``."""
