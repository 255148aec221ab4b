"""From records to documents; never imports torch."""
