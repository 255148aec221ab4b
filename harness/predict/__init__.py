"""Predict the memory, FLOPs and time of a trial without executing it."""
