"""The meters: one file per quantity. No meter imports another meter."""
