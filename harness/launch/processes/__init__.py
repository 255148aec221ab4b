"""The processes in which passes run: how they start, answer and end."""
