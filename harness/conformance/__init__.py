"""The promises that every method must keep, checked on a tiny vision transformer."""
