"""The meters around a training step that is not one of a trial."""
