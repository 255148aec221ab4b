"""The code that runs around a pass in its process."""

import os
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from bsrbench.harness.launch.processes.multiprocessing_internals import close_inherited_pipes
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.processes.reaper import adopt_orphans, die_with_parent
from bsrbench.harness.launch.processes.sweeper import MARK
from bsrbench.harness.trial.pass_result import Answer, encoded
from bsrbench.harness.trial.trial_passes import failure

OURS = "BSRBENCH_"
NONE = Limits()


@dataclass(frozen=True)
class PassSettings:
    """Settings of a pass's process.

    Attributes:
        settings: environment variables.
        limits: time and memory limits.
        cores: the cores that it is bound to; empty means all usable cores.
        log: the file for its output.
        token: prefix of every line that the process sends. A line that a method writes into the
            pipe does not have it.
    """

    settings: dict[str, str] = field(default_factory=dict)
    limits: Limits = NONE
    cores: tuple[int, ...] = ()
    log: str = os.devnull
    token: str = ""


def present_settings() -> dict[str, str]:
    """Return the current variables of bsrbench; the server has their values from its start."""
    return {
        name: value for name, value in os.environ.items() if name.startswith(OURS) and name != MARK
    }


def run(sender: Connection, inside: PassSettings, function: Callable[[], Answer]) -> None:
    """Call a function, write its output into the log and send its answer through the pipe.

    An exception also becomes an answer.
    """
    _belong_to_the_server()
    own = os.getpid()
    handle = _opened(inside.log)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)
    os.environ.update(inside.settings)
    if inside.cores:
        os.sched_setaffinity(0, inside.cores)
    inside.limits.impose()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C ends
    send(sender, f"{inside.token}{time.monotonic()}")
    try:
        answer = encoded(function())
    except BaseException as error:  # noqa: BLE001 - every way to end becomes an outcome here
        with suppress(BaseException):
            traceback.print_exc()
        answer = encoded(failure(error))
    if os.getpid() != own:  # this is a child that the method has forked
        os._exit(0)
    try:
        send(sender, f"{inside.token}{answer.decode()}")
    except OSError:
        os.write(1, b"the pipe for the answer was closed\n")  # into the log


def _opened(log: str) -> int:
    """Return a handle of the log, or of the null device if the log cannot be written any more."""
    try:
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def send(sender: Connection, line: str) -> None:
    """Send a line of any length."""
    left = memoryview(f"{line}\n".encode())
    while left:
        left = left[os.write(sender.fileno(), left) :]


def _belong_to_the_server() -> None:
    """Let the kernel kill this process when the fork server ends.

    The server ends when the main process ends, for whatever reason. Without this, an abandoned
    trial would run beside the next run's trials. The server ends when no process holds the other
    end of its pipe, and multiprocessing passes that end to every child. It also passes on the pipe
    of the resource tracker, which prints a traceback if a method writes into it. So this process
    closes both.
    """
    close_inherited_pipes()
    die_with_parent()
    os.setsid()  # so that its children can be found after its death
    adopt_orphans()  # also children that start a session of their own
