"""Ctrl-C: once ends a run cleanly, twice at once."""

import signal
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self


class CtrlC:
    """Takes the first Ctrl-C as a wish and lets the second interrupt.

    Args:
        on_first: is called then, to tell the person; in a thread of its own, for the signal may
            come while a line is being printed, and Python refuses to print inside of that.
        on_second: is called right before the interrupt, to end what runs.
    """

    def __init__(self, on_first: Callable[[], object], on_second: Callable[[], object]) -> None:
        self._on_first, self._on_second = on_first, on_second
        self._before: Any = None
        # A signal handler may interrupt anything, so it can take no lock; this queue needs none.
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
