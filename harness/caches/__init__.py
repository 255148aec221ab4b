"""Say what bsrbench keeps on the disk outside results folders, and empty it; without torch."""
