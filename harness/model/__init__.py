"""Vision transformers: what may be asked of one, mixtures of experts, heads of tasks."""
