"""Ctrl-C: once ends a run cleanly, twice at once."""

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class CtrlC:
    """Takes the first Ctrl-C as a wish and lets the second interrupt.

    Args:
        on_first: is called then, to tell the person.
        on_second: is called right before the interrupt, to end what runs.
    """

    def __init__(self, on_first: Callable[[], object], on_second: Callable[[], object]) -> None:
        self._on_first, self._on_second = on_first, on_second
        self._before: Any = None
        self.asked = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _take(self, _: int, __: FrameType | None) -> None:
        if self.asked:
            self._on_second()
            raise KeyboardInterrupt
        self.asked = True
        self._on_first()
