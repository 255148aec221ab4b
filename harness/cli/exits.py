"""How commands end."""

import atexit
import gc
import signal
import sys
from functools import cache
from typing import NoReturn

from harness.cli.say import say

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130


@cache
def leave_quickly() -> None:
    """Make the end of this process short, and Ctrl-C harmless while it ends.

    Looking for garbage among all that torch has loaded takes seconds, for memory that is given
    back anyway; a Ctrl-C in them would turn the exit code of a run into a kill.
    """
    atexit.register(gc.freeze)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def stop(message: str, code: int) -> NoReturn:
    """Print a message to the error stream and end with an exit code."""
    say(message, err=True)
    sys.exit(code)
