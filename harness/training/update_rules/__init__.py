"""Optimizers that torch lacks, or that torch cannot run over tensors without values."""
