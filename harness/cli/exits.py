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
STOPPED = "stopped: everything measured so far is stored; run the same command to resume"


@cache
def leave_quickly() -> None:
    """Make this process end quickly, and ignore Ctrl-C while it ends.

    The last garbage collection takes seconds when torch is loaded, and the system frees the memory
    anyway. A Ctrl-C in these seconds would replace the exit code of the run.
    """
    atexit.register(gc.freeze)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


class Interrupts:
    """Lets the first Ctrl-C raise ``KeyboardInterrupt``, and the second end this process at once.

    At the second Ctrl-C the command may be importing a library, or handling the first Ctrl-C. A
    second ``KeyboardInterrupt`` would then print a traceback. The sweeper ends the processes of the
    command. Ctrl-C is also handled if the shell ignores it, as it does for commands with ``&``.

    Attributes:
        pressed: whether Ctrl-C was pressed. A library may have replaced the exception.
    """

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # required by signal.signal
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
