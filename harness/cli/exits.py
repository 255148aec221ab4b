"""How commands end."""

import atexit
import gc
import os
import signal
import sys
import threading
from functools import cache
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from bsrbench.harness.cli.printing import say

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130
STOPPED = "stopped: what was measured so far is stored; run again to go on"


@cache
def leave_quickly() -> None:
    """Make the end of this process short, and Ctrl-C harmless while it ends.

    Looking for garbage among all that torch has loaded takes seconds, for memory that is given
    back anyway; a Ctrl-C in them would turn the exit code of a run into a kill.
    """
    atexit.register(gc.freeze)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


class Interrupts:
    """Lets the first Ctrl-C raise ``KeyboardInterrupt``, and the second end this process at once.

    A command may be anywhere then, in the import of a library or in the end of the first: there a
    second ``KeyboardInterrupt`` would end in a traceback. What runs for it is ended by its sweeper.
    Where a shell has Ctrl-C ignored, behind ``&``, it is taken all the same, as a run takes it.

    Attributes:
        pressed: whether there was one. A library may have made another error of it.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python asks for that
            self._before = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _take(self, _: int, __: FrameType | None) -> None:
        if self.pressed:
            os.write(2, f"{STOPPED}\n".encode())
            os._exit(INTERRUPTED)
        self.pressed = True
        raise KeyboardInterrupt


def stop(message: str, code: int) -> NoReturn:
    """Print a message to the error stream and end with an exit code."""
    say(message, err=True)
    sys.exit(code)
