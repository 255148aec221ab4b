"""Count the trials and passes of a run, and estimate the time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
        expected_seconds: predicted time of all passes; 0 if there is no forecast.
        expected_done: predicted time of the passes that are done.
        what: what runs now.
    """

    trials: int = 0
    completed: int = 0
    failed: int = 0
    passes: int = 0
    passes_done: int = 0
    expected_seconds: float = 0.0
    expected_done: float = 0.0
    what: str = "starting"
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def begin(self, passes: int) -> None:
        """Start the clock; the time before this was preparation."""
        self.passes, self.began = passes, self.now()

    def left_seconds(self) -> float | None:
        """Return the estimated time left: the forecast, scaled by the actual speed so far."""
        left = self.expected_seconds - self.expected_done
        if self.expected_seconds <= 0:
            return None
        if self.expected_done <= 0:
            return left
        return max(0.0, left * (self.now() - self.began) / self.expected_done)

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


def duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours, whichever is easiest to read."""
    if seconds < ABOUT:
        return f"{max(1, round(seconds))} s"
    if seconds < ABOUT * MINUTE:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
