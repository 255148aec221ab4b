"""Search for the best settings of a method on a device: predict costs, then train."""
