"""Decide which trials of a suite are missing, and run them."""
