"""The processes that passes run in: how they start, answer and end."""
