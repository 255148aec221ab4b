"""Measure the wall-clock time of actions."""

import math
import time
from collections.abc import Callable, Sequence

SETTLED = 0.95  # warm-up ends at a run that takes at least this share of the previous one
MOST_WARM_UP_RUNS = 10
CONFIDENCE = 0.95


def seconds_each(
    action: Callable[[], object], times: int, synchronise: Callable[[], None]
) -> list[float]:
    """Run ``action`` and return the seconds of each run.

    Args:
        action: the action to time.
        times: number of runs.
        synchronise: waits for the device; called before each reading of the clock.
    """
    samples = []
    for _ in range(times):
        synchronise()
        start = time.perf_counter()
        action()
        synchronise()
        samples.append(time.perf_counter() - start)
    return samples


def warm_up(
    action: Callable[[], object], synchronise: Callable[[], None], least: int
) -> list[float]:
    """Run ``action`` until it does not get faster, and return the seconds of each run.

    It runs at least ``least`` and at most ``MOST_WARM_UP_RUNS`` times, and stops when a run is at
    most 5 % faster than the previous one. With ``least`` 0 it does not run.
    """
    samples: list[float] = []
    while len(samples) < least or (
        1 < len(samples) < MOST_WARM_UP_RUNS and samples[-1] < SETTLED * samples[-2]
    ):
        samples += seconds_each(action, 1, synchronise)
    return samples


class PhaseClock:
    """Adds up the seconds of the phases of one action.

    Args:
        synchronise: waits for the device; called at the end of each phase.
    """

    def __init__(self, synchronise: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronise = synchronise
        self._phase: str | None = None
        self._began = 0.0

    def enter_phase(self, phase: str) -> None:
        """End the current phase and begin another one, or the same one again."""
        self.stop()
        self._phase = phase
        self._began = time.perf_counter()

    def stop(self) -> None:
        """End the current phase."""
        self._synchronise()
        if self._phase is not None:
            spent = time.perf_counter() - self._began
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + spent
        self._phase = None


def median_interval(samples: Sequence[float]) -> tuple[float, float] | None:
    """Return a distribution-free 95 % interval of the median, or ``None`` below six samples.

    Its ends are order statistics from the binomial distribution with probability 1/2: each end is
    outside with probability 2.5 % at most (Hoefler and Belli 2015, section 3.1.2). Samples of one
    process are not independent, so the true uncertainty may be larger.
    """
    count, ordered = len(samples), sorted(samples)
    cut, tail = 0, 0.0
    while cut < count // 2:
        tail += math.comb(count, cut) / 2**count
        if tail > (1 - CONFIDENCE) / 2:
            break
        cut += 1
    if cut == 0:
        return None
    return ordered[cut - 1], ordered[count - cut]


def settled(samples: Sequence[float], share: float) -> bool:
    """Return whether both ends of the median's interval are within ``share`` of the median."""
    interval = median_interval(samples)
    if interval is None:
        return False
    ordered = sorted(samples)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return middle - interval[0] <= share * middle and interval[1] - middle <= share * middle
