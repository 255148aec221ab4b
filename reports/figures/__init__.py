"""Figures of reports, one kind per file."""
