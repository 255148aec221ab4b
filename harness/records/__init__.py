"""The records of trials: how they are written, read, checked and maintained."""
