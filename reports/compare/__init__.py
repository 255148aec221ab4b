"""Rows of a comparison, and the verdicts on two of them."""
