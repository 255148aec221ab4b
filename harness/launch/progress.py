"""Who is told how a run goes on: a terminal, a script, nobody; and the file for other terminals."""

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
    """Who is told."""

    def show(self, tally: Tally) -> None:
        """Learn that something has begun or ended."""

    def say(self, line: str) -> None:
        """Learn something a person should read."""


class Quiet:
    """Says nothing."""

    def show(self, tally: Tally) -> None:
        """Say nothing."""

    def say(self, line: str) -> None:
        """Say nothing."""


class JsonLines:
    """A line of JSON whenever something begins or ends, for scripts.

    Args:
        console: where lines go.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def show(self, tally: Tally) -> None:
        """Print the count."""
        self._print({"event": "progress"} | tally.plain())

    def say(self, line: str) -> None:
        """Print a line."""
        self._print({"event": "said", "line": line.strip()})

    def _print(self, event: dict[str, Any]) -> None:
        self._console.out(json.dumps(event), highlight=False)


class TerminalProgress:
    """A line that is redrawn only when something changes, so that measuring is left alone.

    Args:
        console: where to draw; what is said is printed there too, terminal or not.
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
        """Draw the count."""
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
        """Print a line a person should read."""
        self._progress.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)


class StatusWriter:
    """Passes everything on, and keeps the count in the results folder for 'bsrbench status'.

    Args:
        watcher: who else is told.
        store: the results folder.
    """

    def __init__(self, watcher: Watcher, store: Store) -> None:
        self._watcher, self._store = watcher, store
        self._written = 0.0
        self._last: dict[str, Any] = {}
        self._lock = threading.Lock()

    def show(self, tally: Tally) -> None:
        """Keep the count, at most once a second."""
        self._watcher.show(tally)
        with self._lock:
            self._last = tally.plain()
            if time.monotonic() - self._written >= WRITE_EVERY_SECONDS:
                self._write("running")

    def say(self, line: str) -> None:
        """Pass a line on."""
        self._watcher.say(line)

    def end(self, state: str) -> None:
        """Keep how the run ended: ``finished`` or ``stopped``."""
        with self._lock:
            self._write(state)

    def _write(self, state: str) -> None:
        self._written = time.monotonic()
        whose = {"state": state, "pid": os.getpid(), "host": platform.node(), "at": time.time()}
        self._store.note_progress(whose | self._last)
