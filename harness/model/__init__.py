"""Vision transformers: access to their parts, mixtures of experts, heads of tasks."""
