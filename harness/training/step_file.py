"""Tell another process how many steps of a training are done, in a small file."""

import os
import time
from collections.abc import Callable
from pathlib import Path

EVERY_SECONDS = 1.0
MOST_BYTES = 32


class StepFile:
    """Writes the number of steps that are done into a file, at most once per second.

    Args:
        file: the file; ``None`` writes nothing.
        now: the clock.
    """

    def __init__(self, file: Path | None, now: Callable[[], float] = time.monotonic) -> None:
        self._file, self._now = file, now
        self._written = -EVERY_SECONDS

    def note(self, step: int) -> None:
        """Write the number of steps; a file that cannot be written is left as it is."""
        if self._file is None or self._now() - self._written < EVERY_SECONDS:
            return
        self._written = self._now()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            number = os.open(self._file, flags, 0o600)
            with os.fdopen(number, "wb") as file:
                file.write(b"%d" % step)
        except OSError:
            self._file = None  # the forecast does without it


def steps_in(file: Path) -> int | None:
    """Return the number of steps in a file; ``None`` if there is none yet."""
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(number, "rb") as opened:
            text = opened.read(MOST_BYTES)
    except OSError:
        return None
    return int(text) if text.isdigit() else None
