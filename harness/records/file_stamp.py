"""Tell whether a file has changed since it was read."""

import os
import time

SETTLED_SECONDS = 2.0  # a younger file may change again without its stamp telling
NANO = 1e9

# What changes when a file does: its size, when it was modified and when changed (nanoseconds since
# 1970; the second no program can set), its inode and device.
Stamp = list[int]
NO_STAMP: Stamp = []  # that no file has


def stamp(about: os.stat_result) -> Stamp:
    """Return the stamp of a file of which this is known."""
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def present_stamp(path: str) -> Stamp:
    """Return the stamp that a file has now; ``NO_STAMP`` where there is none."""
    try:
        return stamp(os.stat(path))  # noqa: PTH116 - a third of the time for a hundred thousand
    except OSError:
        return NO_STAMP


def settled_before() -> float:
    """Return the time, in nanoseconds since 1970, since which no file at rest has changed."""
    return (time.time() - SETTLED_SECONDS) * NANO


def stamp_at_rest(stamp: Stamp, before: float) -> Stamp:
    """Return the stamp of a file that last changed before a time; else one that no file has."""
    return stamp if stamp and max(stamp[1], stamp[2]) < before else NO_STAMP
