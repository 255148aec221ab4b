"""Runs trials; knows no method by name."""
