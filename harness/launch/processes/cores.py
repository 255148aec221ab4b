"""Which cores a timed process is bound to."""

import os
from collections.abc import Iterable
from pathlib import Path

CPU_FOLDER = Path("/sys/devices/system/cpu")


def choose(threads: int, taken: Iterable[int] = ()) -> list[int]:
    """Return as many of this process's cores as there are threads, whole ones before halves.

    Two hardware threads of one core share its arithmetic: the second is chosen only when every
    core has given its first. Where there are fewer than asked for, all are returned.

    Args:
        threads: how many.
        taken: cores that others are bound to.
    """
    free = sorted(os.sched_getaffinity(0) - set(taken))
    turns: dict[str, int] = {}
    ranked = []
    for core in free:
        name = _siblings(core)
        ranked.append((turns.get(name, 0), core))
        turns[name] = turns.get(name, 0) + 1
    return sorted(core for _, core in sorted(ranked)[:threads])


def _siblings(core: int) -> str:
    """Return what the hardware threads of one core have in common; each its own if untold."""
    try:
        path = CPU_FOLDER / f"cpu{core}" / "topology" / "thread_siblings_list"
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(core)
