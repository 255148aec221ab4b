"""Documents that are written from records, one writer per file."""
