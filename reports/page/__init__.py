"""The interactive page: the data that it shows; its scripts and styles stand beside."""
