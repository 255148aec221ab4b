"""The meters for a user's own training step, outside of trials."""
