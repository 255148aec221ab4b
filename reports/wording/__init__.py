"""Sentences of reports: claims, notes, and text from records that is safe to print."""
