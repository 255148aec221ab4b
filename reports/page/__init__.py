"""The interactive page: its data in Python, and its scripts and styles."""
