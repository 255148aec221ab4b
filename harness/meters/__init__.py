"""One file per quantity; no meter imports another."""
