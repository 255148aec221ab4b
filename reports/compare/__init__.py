"""Rows of a comparison, and what can be said of two of them."""
