"""Promises every method keeps, checked on a tiny vision transformer."""
