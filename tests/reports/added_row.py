"""Seconds of rows that were timed together, and of one that was added in turns with two."""

# Seconds of three visits. In group "g" full, bsr and head were timed together; then mine was added
# in group "h" on a slower day, in turns with full and bsr.
FIRST = {"full": [4.0] * 3, "bsr": [2.0] * 3, "head": [1.0] * 3}
AGAIN = {"full": [6.0] * 3, "bsr": [4.0] * 3}
MINE = [2.4] * 3
