"""Report the progress of a run: on a terminal, as JSON, or in a file for 'bsrbench status'."""

import json
import os
import platform
import threading
import time
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bsrbench.harness.launch.run_tally import Tally, duration
from bsrbench.harness.records.store import Store
from bsrbench.harness.visible_text import visible

WRITE_EVERY_SECONDS = 1.0


class Watcher(Protocol):
    """Receives the progress of a run."""

    def show(self, tally: Tally) -> None:
        """Receive the new counts when a trial or pass begins or ends."""

    def say(self, line: str) -> None:
        """Receive a line for the user."""


class Quiet:
    """Prints nothing."""

    def show(self, tally: Tally) -> None:
        """Print nothing."""

    def say(self, line: str) -> None:
        """Print nothing."""


class JsonLines:
    """Prints a line of JSON when a trial or pass begins or ends, for scripts.

    Args:
        console: where lines are printed.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, tally: Tally) -> None:
        """Print the counts."""
        self._print({"event": "progress"} | tally.plain())

    def say(self, line: str) -> None:
        """Print a line."""
        self._print({"event": "said", "line": line.strip()})

    def _print(self, event: dict[str, Any]) -> None:
        self._console.out(json.dumps(event), highlight=False)


class TerminalProgress:
    """Draws a progress line, only when something changes, so that it does not disturb timing.

    Args:
        console: where to draw the line and print messages. If it is not a terminal, only the
            messages are printed.
    """

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
        )
        self._progress = Progress(
            *columns, console=console, auto_refresh=False, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("starting", total=None, rest="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.update(self._task, description="done" if error is None else "stopped")
        self._progress.refresh()
        self._progress.stop()

    def show(self, tally: Tally) -> None:
        """Draw the counts."""
        left = tally.left_seconds()
        rest = [] if left is None else [f"{duration(left)} left"]
        rest += [f"{tally.failed} failed"] if tally.failed else []
        self._progress.update(
            self._task,
            description=visible(tally.what),
            total=max(tally.passes, tally.passes_done) or None,
            completed=tally.passes_done,
            rest=", ".join(rest),
            refresh=True,
        )

    def say(self, line: str) -> None:
        """Print a line for the user."""
        self._progress.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


class StatusWriter:
    """Forwards progress, and writes the counts into the results folder for 'bsrbench status'.

    Args:
        watcher: receives all progress.
        store: the results folder.
    """

    def __init__(self, watcher: Watcher, store: Store) -> None:
        self._watcher, self._store = watcher, store
        self._written = 0.0
        self._last: dict[str, Any] = {}
        self._lock = threading.Lock()

    def show(self, tally: Tally) -> None:
        """Forward the counts, and write them at most once per second."""
        self._watcher.show(tally)
        with self._lock:
            self._last = tally.plain()
            if time.monotonic() - self._written >= WRITE_EVERY_SECONDS:
                self._write("running")

    def say(self, line: str) -> None:
        """Forward a line."""
        self._watcher.say(line)

    def end(self, state: str) -> None:
        """Write how the run ended: ``finished``, ``planned`` or ``stopped``."""
        with self._lock:
            self._write(state)

    def _write(self, state: str) -> None:
        self._written = time.monotonic()
        run_facts = {"state": state, "pid": os.getpid(), "host": platform.node(), "at": time.time()}
        self._store.note_progress(run_facts | self._last)
