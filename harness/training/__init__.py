"""The training step, the training loop, evaluation, and what a killed training resumes from."""
