"""Every meter in a pass of its own over the same optimizer step."""
