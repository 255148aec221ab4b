"""One trial: its passes, and the record that they make together."""
