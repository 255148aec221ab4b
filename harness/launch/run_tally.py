"""How far a run has come, and when it will end."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ABOUT = 90  # seconds, or minutes, up to which they are said as such
MINUTE, HOUR = 60, 3600


@dataclass
class Tally:
    """The count of a run.

    Attributes:
        trials: to be run.
        completed: of them, done.
        failed: of them, ended another way.
        passes: there will be at least.
        passes_done: of them, done.
        expected_seconds: forecast of all passes; 0 where there is none.
        expected_done: forecast of those done.
        what: runs now.
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
        """Count from now: what came before was preparation."""
        self.passes, self.began = passes, self.now()

    def left_seconds(self) -> float | None:
        """Return the forecast of what is left, corrected by how long the rest took."""
        left = self.expected_seconds - self.expected_done
        if self.expected_seconds <= 0:
            return None
        if self.expected_done <= 0:
            return left
        return max(0.0, left * (self.now() - self.began) / self.expected_done)

    def plain(self) -> dict[str, Any]:
        """Return the count as values for JSON."""
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
    """Return seconds in the unit a person would say them in."""
    if seconds < ABOUT:
        return f"{max(1, round(seconds))} s"
    if seconds < ABOUT * MINUTE:
        return f"{round(seconds / MINUTE)} min"
    return f"{seconds / HOUR:.1f} h"
