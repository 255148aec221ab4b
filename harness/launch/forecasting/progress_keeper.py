"""Keep the progress of a run, and show it whenever it changes and every few seconds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bsrbench.harness.launch.forecasting.work_left import Key
from bsrbench.harness.launch.progress import Watcher
from bsrbench.harness.launch.run_tally import Tally

SHOW_EVERY_SECONDS = 5.0


class ProgressKeeper:
    """Counts what is done, and shows it; several threads may use it.

    Args:
        tally: the counts, with the work that is left.
        watcher: gets the counts.
        every_seconds: the counts are shown at least so often, except during a visit.
    """

    def __init__(
        self, tally: Tally, watcher: Watcher, every_seconds: float = SHOW_EVERY_SECONDS
    ) -> None:
        self.tally, self._watcher, self._every = tally, watcher, every_seconds
        self._lock = threading.Lock()
        self._visited = False
        self._shares: dict[Key, Callable[[], float]] = {}

    def tell(self, what: str, *, visit: bool = False) -> None:
        """Show what runs now.

        Args:
            what: what runs now.
            visit: it is timed, so that nothing may run beside it.
        """
        with self._lock:
            self.tally.what, self._visited = what, visit
            self._watcher.show(self.tally)

    def begin(self, key: Key, share: Callable[[], float] | None = None) -> None:
        """Begin a piece of the work.

        Args:
            key: the piece.
            share: returns the share of it that is done.
        """
        if self.tally.work is not None:
            self.tally.work.begin(key)
            if share is not None:
                self._shares[key] = share

    def advance(self, key: Key | None = None) -> None:
        """Count a pass that is done, and end its piece of the work."""
        with self._lock:
            self.tally.passes_done += 1
            if key is not None:
                self._shares.pop(key, None)
            if key is not None and self.tally.work is not None:
                self.tally.work.end(key)
            self._watcher.show(self.tally)

    def trial_done(self, *, completed: bool, keys: list[Key]) -> None:
        """Count a trial that has ended, and leave out its pieces that were not begun."""
        with self._lock:
            self.tally.completed += completed
            self.tally.failed += not completed
            if self.tally.work is not None:
                self.tally.work.drop(keys)
            self._watcher.show(self.tally)

    def quiet(self, *, visit: bool) -> None:
        """Show nothing unasked while something is timed."""
        self._visited = visit

    def _note_shares(self) -> None:
        for key, share in list(self._shares.items()):
            if self.tally.work is not None:
                self.tally.work.note_share(key, share())

    @contextmanager
    def shown_regularly(self) -> Iterator[None]:
        """Show the counts every few seconds, so that the time left is never an old one."""
        ended = threading.Event()

        def show() -> None:
            while not ended.wait(self._every):
                if not self._visited:
                    with self._lock:
                        self._note_shares()
                        self._watcher.show(self.tally)

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
