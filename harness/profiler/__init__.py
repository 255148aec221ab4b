"""The passes: each runs one meter over the same optimizer step."""
