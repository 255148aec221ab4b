"""Detect disturbances of a timing: other processes, the hypervisor, throttling."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

STAT = Path("/proc/stat")
CGROUP_CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")  # cgroup version 2; a container sees its own
CPU_FOLDER = Path("/sys/devices/system/cpu")

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# The kernel rounds user and system time of a core down to whole ticks of 10 ms. In a shorter timing
# the two rounding errors could be larger than OUTSIDE_LIMIT.
SHORTEST_SECONDS = 0.4

# Other processes can slow a step that uses every core by up to this share. Small differences
# between methods are of the same size.
OUTSIDE_LIMIT = 0.05
# The interval of a median must be within 2 %. A larger share of stolen time is a disturbance.
STOLEN_LIMIT = 0.02


@dataclass(frozen=True)
class Disturbance:
    """The disturbances during a timing; ``None`` means that this system does not report it.

    Attributes:
        outside_share: CPU time of other processes, divided by usable cores times wall time;
            also ``None`` if the timing was too short.
        stolen_share: CPU time that the hypervisor gave to other machines, divided by the same.
        throttled: descriptions of what stopped or slowed the cores, with counts.
        governor: the frequency governor, such as ``performance``.
    """

    outside_share: float | None
    stolen_share: float | None
    throttled: list[str] | None
    governor: str | None

    def notes(self) -> list[str]:
        """Return a sentence for each disturbance beyond its limit."""
        notes = []
        if self.outside_share is not None and self.outside_share > OUTSIDE_LIMIT:
            notes.append(
                f"other processes used a share of {self.outside_share:.3f} of the cores' time "
                f"(limit: {OUTSIDE_LIMIT})"
            )
        if self.stolen_share is not None and self.stolen_share > STOLEN_LIMIT:
            notes.append(
                f"the hypervisor took a share of {self.stolen_share:.3f} of the cores' time "
                f"(limit: {STOLEN_LIMIT})"
            )
        return notes + [f"throttled during the timing: {cause}" for cause in self.throttled or []]


class LoadWatch:
    """Reads the machine's counters when it is entered and when it is left; runs nothing between.

    Args:
        cores: the cores to watch; by default those that this process may use.

    Attributes:
        timed_seconds: CPU time of the timed processes during the block, besides this process; to
            be set before the block is left.
        disturbance: the disturbances during the block; set when the block is left.
    """

    disturbance: Disturbance

    def __init__(self, cores: Sequence[int] = ()) -> None:
        self._cores = sorted(cores) or _cores()
        self.timed_seconds = 0.0

    def __enter__(self) -> Self:
        self._start = _read(self._cores)
        return self

    def __exit__(self, *exception: object) -> None:
        end = _read(self._cores)
        own = end.own_seconds + self.timed_seconds
        self.disturbance = _between(self._start, replace(end, own_seconds=own), self._cores)


@dataclass(frozen=True)
class _Ticks:
    """Ticks of the usable cores: busy with any process of this system, stolen, and total."""

    busy: int
    stolen: int
    every: int


@dataclass(frozen=True)
class _Moment:
    """The counters at one moment."""

    wall_seconds: float
    own_seconds: float
    ticks: _Ticks | None
    quota_stops: int | None
    heat_stops: int | None


def _read(cores: Sequence[int]) -> _Moment:
    return _Moment(
        wall_seconds=time.perf_counter(),
        own_seconds=time.process_time(),  # of all threads
        ticks=_ticks(cores),
        quota_stops=_quota_stops(),
        heat_stops=_heat_stops(cores),
    )


def _between(start: _Moment, end: _Moment, cores: Sequence[int]) -> Disturbance:
    outside, stolen = _shares(start, end, cores)
    return Disturbance(outside, stolen, _throttled(start, end), _governor(cores))


def _shares(
    start: _Moment, end: _Moment, cores: Sequence[int]
) -> tuple[float | None, float | None]:
    wall = end.wall_seconds - start.wall_seconds
    if start.ticks is None or end.ticks is None or wall < SHORTEST_SECONDS:
        return None, None
    if end.ticks.every == start.ticks.every:  # some sandboxes have a file that never changes
        return None, None
    core_seconds = len(cores) * wall
    busy = (end.ticks.busy - start.ticks.busy) / TICKS_PER_SECOND
    outside = busy - (end.own_seconds - start.own_seconds)
    stolen = (end.ticks.stolen - start.ticks.stolen) / TICKS_PER_SECOND
    # Ticks are rounded down, so the difference can be slightly negative.
    return max(0.0, outside / core_seconds), stolen / core_seconds


def _throttled(start: _Moment, end: _Moment) -> list[str] | None:
    counts = {
        "the cgroup's CPU quota stopped the process": (start.quota_stops, end.quota_stops),
        "overheating slowed a core": (start.heat_stops, end.heat_stops),
    }
    known = {
        cause: after - before
        for cause, (before, after) in counts.items()
        if before is not None and after is not None
    }
    return [f"{cause} {times} times" for cause, times in known.items() if times] if known else None


def _cores() -> list[int]:
    """Return the cores that this process may use; empty if the system has no such list (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _ticks(cores: Sequence[int]) -> _Ticks | None:
    """Add up ``user nice system idle iowait irq softirq steal`` (proc_stat(5)).

    ``user`` and ``nice`` already include the two fields after them (guests).
    """
    lines = (line.split() for line in (_text(STAT) or "").splitlines() if line.startswith("cpu"))
    by_core = {words[0]: [int(word) for word in words[1:9]] for words in lines}
    try:
        columns = zip(*(by_core[f"cpu{core}"] for core in cores), strict=True)
        fields = [sum(column) for column in columns]
        user, nice, system, _, _, irq, softirq, steal = fields
    except (
        KeyError,
        ValueError,
    ):  # no such file, a core is missing, or an old kernel has fewer fields
        return None
    return _Ticks(busy=user + nice + system + irq + softirq, stolen=steal, every=sum(fields))


def _quota_stops() -> int | None:
    for line in (_text(CGROUP_CPU_STAT) or "").splitlines():
        if line.startswith("nr_throttled "):
            return int(line.split()[1])
    return None  # the root group cannot have a quota, so its file has no such line


def _heat_stops(cores: Sequence[int]) -> int | None:
    files = [CPU_FOLDER / f"cpu{core}/thermal_throttle/core_throttle_count" for core in cores]
    counts = [int(text) for text in map(_text, files) if text]
    return sum(counts) if counts else None


def _governor(cores: Sequence[int]) -> str | None:
    files = [CPU_FOLDER / f"cpu{core}/cpufreq/scaling_governor" for core in cores]
    return ", ".join(sorted({text for text in map(_text, files) if text})) or None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return None
