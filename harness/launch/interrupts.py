"""Ctrl-C in a run: the first stops it after the current pass, the second stops it at once."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self


class CtrlC:
    """Records the first Ctrl-C as a request to stop; the second raises ``KeyboardInterrupt``.

    Args:
        on_first: called after the first Ctrl-C, to tell the user. It runs in a separate thread,
            because the signal may arrive while a line is being printed, and Python does not allow
            a signal handler to print at that moment.
        on_second: called right before the interrupt, to end the running processes.
    """

    def __init__(self, on_first: Callable[[], object], on_second: Callable[[], object]) -> None:
        self._on_first, self._on_second = on_first, on_second
        self._before: Any = None
        # A signal handler may interrupt any code, so it must not take a lock; this queue has none.
        self._wishes: SimpleQueue[bool] = SimpleQueue()
        self._telling = threading.Thread(target=self._tell, daemon=True)
        self.asked = False

    def __enter__(self) -> Self:
        self._telling.start()
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)
        self._wishes.put(False)
        self._telling.join()

    def _take(self, _: int, __: FrameType | None) -> None:
        if self.asked:
            self._on_second()
            raise KeyboardInterrupt
        self.asked = True
        self._wishes.put(True)

    def _tell(self) -> None:
        while self._wishes.get():
            self._on_first()
