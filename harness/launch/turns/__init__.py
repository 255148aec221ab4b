"""Time the trials of a round group in turns: residents, rounds, generations, and when to stop."""
