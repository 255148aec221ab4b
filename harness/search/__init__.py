"""Look for the settings of a method that serve a device best: costs first, then training."""
