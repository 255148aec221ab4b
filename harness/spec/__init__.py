"""What is asked for: suites, the trials in them, and the names of their rows."""
