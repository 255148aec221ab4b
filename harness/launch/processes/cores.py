"""Choose the cores to which a timed process is bound."""

import os
from collections.abc import Iterable
from pathlib import Path

CPU_FOLDER = Path("/sys/devices/system/cpu")


def choose(threads: int, taken: Iterable[int] = ()) -> list[int]:
    """Return one usable core per thread, on different physical cores as far as possible.

    Two hardware threads of one core share its arithmetic units. So the second hardware thread of a
    core is chosen only if the first hardware thread of every core is in use. If there are too
    few cores, all of them are returned.

    Args:
        threads: number of threads.
        taken: cores that other processes are bound to.
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
    """Return a text that is equal for all hardware threads of a core; unique if not known."""
    try:
        path = CPU_FOLDER / f"cpu{core}" / "topology" / "thread_siblings_list"
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(core)
