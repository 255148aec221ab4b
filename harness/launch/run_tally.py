"""Count the trials and passes of a run, and estimate the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bsrbench.harness.launch.forecasting.work_left import OVERRUN, WorkLeft

ABOUT = 90  # below this many seconds or minutes, a time is not converted to a larger unit
MINUTE, HOUR = 60, 3600


@dataclass
class Tally:
    """The progress of a run.

    Attributes:
        trials: number of trials to run.
        completed: number of trials that have completed.
        failed: number of trials that ended in another way.
        passes: minimum number of passes.
        passes_done: number of passes that are done.
        what: what runs now.
        work: what is left of the run, in pieces with their predicted times.
    """

    trials: int = 0
    completed: int = 0
    failed: int = 0
    passes: int = 0
    passes_done: int = 0
    what: str = "starting"
    now: Callable[[], float] = time.monotonic
    work: WorkLeft | None = None
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def begin(self, passes: int) -> None:
        """Start the clock; the time before this was preparation."""
        self.passes, self.began = passes, self.now()

    def left_seconds(self) -> float | None:
        """Return the estimated time left; ``None`` if it is not known."""
        return None if self.work is None else self.work.left_seconds()

    def plain(self) -> dict[str, Any]:
        """Return the progress as JSON data."""
        left = self.left_seconds()
        return {
            "trials": self.trials,
            "completed": self.completed,
            "failed": self.failed,
            "left": self.trials - self.completed - self.failed,
            "passes": self.passes,
            "passes_done": self.passes_done,
            "seconds": round(self.now() - self.began, 1),
            "left_seconds": None if left is None else round(left, 1),
            "what": self.what,
        }


def left_later(left_seconds: float, later_seconds: float) -> float:
    """Return the time left some time after it was told, if nothing has been told since."""
    return max(left_seconds - later_seconds, OVERRUN * later_seconds)


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours, whichever is easiest to read."""
    if seconds < ABOUT:
        return f"{max(1, round(seconds))} s"
    if seconds < ABOUT * MINUTE:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
