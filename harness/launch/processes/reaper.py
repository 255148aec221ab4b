"""Kernel settings for parent and child processes; they have an effect on Linux only."""

import ctypes
import signal
from contextlib import suppress

DIE_WITH_PARENT, ADOPT = 1, 36  # PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    _ask(DIE_WITH_PARENT, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every descendant process whose own parent ends."""
    _ask(ADOPT, 1)


def _ask(what: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(what, value, 0, 0, 0)
