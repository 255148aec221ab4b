"""Show on a terminal how a run goes on; stay quiet elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class TerminalProgress:
    """A line that is redrawn only when something changes, so that measuring is left alone.

    Args:
        console: where to draw; what is said is printed there too, terminal or not.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(
            *columns, console=console, auto_refresh=False, disable=not console.is_terminal
        )
        self._task = self._progress.add_task("starting", total=None)

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

    def begin(self, total: int) -> None:
        """Set how many passes there will be."""
        self._progress.update(self._task, total=total, refresh=True)

    def start(self, what: str) -> None:
        """Show what runs now."""
        self._progress.update(self._task, description=what, refresh=True)

    def advance(self) -> None:
        """Count a pass as done."""
        self._progress.advance(self._task)
        self._progress.refresh()

    def say(self, line: str) -> None:
        """Print a line a person should read."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
