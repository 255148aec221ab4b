"""Memory, FLOPs and time of a trial, predicted without executing it."""
