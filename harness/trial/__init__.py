"""One trial: its passes, and the record that is assembled from them."""
