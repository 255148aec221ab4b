"""Parts of vision transformers, mixtures of experts, and heads for several tasks."""
