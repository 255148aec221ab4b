"""From a workload spec to a model with its weights, and images."""
