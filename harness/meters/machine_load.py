"""Disturbances of a timing: other processes, the hypervisor, throttling."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

STAT = Path("/proc/stat")
CGROUP_CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")  # cgroup version 2; a container sees its own
CPU_FOLDER = Path("/sys/devices/system/cpu")

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# A core's user and system ticks are each cut to a whole one, of 10 ms: below this length the
# error of both would be larger than OUTSIDE_LIMIT.
SHORTEST_SECONDS = 0.4

# A step that uses every core is slowed by up to this share: as much as the smaller differences
# between methods that a report is asked about.
OUTSIDE_LIMIT = 0.05
# The interval of a median is asked to be within 2 %: time stolen beyond that is not spread.
STOLEN_LIMIT = 0.02


@dataclass(frozen=True)
class Disturbance:
    """The disturbances during a timing; ``None`` means that this system does not report it.

    Attributes:
        outside_share: CPU time of other processes, divided by usable cores times wall time;
            also ``None`` if the timing was too short.
        stolen_share: CPU time that the hypervisor gave to other machines, divided by the same.
        throttled: in words what stopped or slowed the cores, with counts.
        governor: the frequency governor, such as ``performance``.
    """

    outside_share: float | None
    stolen_share: float | None
    throttled: list[str] | None
    governor: str | None

    def notes(self) -> list[str]:
        """Return a sentence for each disturbance beyond its limit."""
        found = []
        if self.outside_share is not None and self.outside_share > OUTSIDE_LIMIT:
            found.append(
                f"other processes took a share of {self.outside_share:.3f} of the cores' time "
                f"(noted above {OUTSIDE_LIMIT})"
            )
        if self.stolen_share is not None and self.stolen_share > STOLEN_LIMIT:
            found.append(
                f"the hypervisor took a share of {self.stolen_share:.3f} of the cores' time "
                f"(noted above {STOLEN_LIMIT})"
            )
        return found + [f"throttled while timed: {words}" for words in self.throttled or []]


class LoadWatch:
    """Reads the machine's counters when entered and when left, and runs nothing in between.

    Attributes:
        disturbance: what happened between; there once the block is left.
    """

    disturbance: Disturbance

    def __enter__(self) -> Self:
        self._start = _read()
        return self

    def __exit__(self, *exception: object) -> None:
        self.disturbance = _between(self._start, _read())


@dataclass(frozen=True)
class _Ticks:
    """Ticks of the usable cores: busy for some process here, stolen, and all."""

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


def _read() -> _Moment:
    return _Moment(
        wall_seconds=time.perf_counter(),
        own_seconds=time.process_time(),  # of all threads
        ticks=_ticks(),
        quota_stops=_quota_stops(),
        heat_stops=_heat_stops(),
    )


def _between(start: _Moment, end: _Moment) -> Disturbance:
    outside, stolen = _shares(start, end)
    return Disturbance(outside, stolen, _throttled(start, end), _governor())


def _shares(start: _Moment, end: _Moment) -> tuple[float | None, float | None]:
    wall = end.wall_seconds - start.wall_seconds
    if start.ticks is None or end.ticks is None or wall < SHORTEST_SECONDS:
        return None, None
    if end.ticks.every == start.ticks.every:  # a sandbox's file that only looks like one
        return None, None
    core_seconds = len(_cores()) * wall
    busy = (end.ticks.busy - start.ticks.busy) / TICKS_PER_SECOND
    outside = busy - (end.own_seconds - start.own_seconds)
    stolen = (end.ticks.stolen - start.ticks.stolen) / TICKS_PER_SECOND
    return max(0.0, outside / core_seconds), stolen / core_seconds  # ticks are cut: may fall below


def _throttled(start: _Moment, end: _Moment) -> list[str] | None:
    counts = {
        "the control group's CPU quota stopped it": (start.quota_stops, end.quota_stops),
        "heat slowed a core": (start.heat_stops, end.heat_stops),
    }
    known = {
        words: after - before
        for words, (before, after) in counts.items()
        if before is not None and after is not None
    }
    return [f"{words} {times} times" for words, times in known.items() if times] if known else None


def _cores() -> list[int]:
    """Return the cores this process may use; none where the system does not tell (macOS)."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def _ticks() -> _Ticks | None:
    """Add up ``user nice system idle iowait irq softirq steal`` (proc_stat(5)).

    The two fields after them, guests, are in ``user`` and ``nice`` already.
    """
    lines = (line.split() for line in (_text(STAT) or "").splitlines() if line.startswith("cpu"))
    by_core = {words[0]: [int(word) for word in words[1:9]] for words in lines}
    try:
        columns = zip(*(by_core[f"cpu{core}"] for core in _cores()), strict=True)
        fields = [sum(column) for column in columns]
        user, nice, system, _, _, irq, softirq, steal = fields
    except (KeyError, ValueError):  # no such file, a core it leaves out, an old kernel's line
        return None
    return _Ticks(busy=user + nice + system + irq + softirq, stolen=steal, every=sum(fields))


def _quota_stops() -> int | None:
    for line in (_text(CGROUP_CPU_STAT) or "").splitlines():
        if line.startswith("nr_throttled "):
            return int(line.split()[1])
    return None  # no quota can be set on the root group, and its file has no such line


def _heat_stops() -> int | None:
    files = [CPU_FOLDER / f"cpu{core}/thermal_throttle/core_throttle_count" for core in _cores()]
    counts = [int(text) for text in map(_text, files) if text]
    return sum(counts) if counts else None


def _governor() -> str | None:
    files = [CPU_FOLDER / f"cpu{core}/cpufreq/scaling_governor" for core in _cores()]
    return ", ".join(sorted({text for text in map(_text, files) if text})) or None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return None
