"""Make the model, weights and images of a workload."""
