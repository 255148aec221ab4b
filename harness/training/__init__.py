"""The training step, the training loop, evaluation, and checkpoints of long trainings."""
