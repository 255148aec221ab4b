"""Where trials run, and which of a suite's are missing."""
