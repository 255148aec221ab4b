"""What runs in a pass's process, around the pass."""

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
    """What holds inside a pass's process.

    Attributes:
        settings: of its environment.
        limits: what it may take.
        cores: what it is bound to; every usable core where none is named.
        log: the file that it prints into.
        token: begins every line that it sends; what its method writes has no such beginning.
    """

    settings: dict[str, str] = field(default_factory=dict)
    limits: Limits = NONE
    cores: tuple[int, ...] = ()
    log: str = os.devnull
    token: str = ""


def present_settings() -> dict[str, str]:
    """Return our settings as they are now: the server has those of when it started."""
    return {
        name: value for name, value in os.environ.items() if name.startswith(OURS) and name != MARK
    }


def run(sender: Connection, inside: PassSettings, function: Callable[[], Answer]) -> None:
    """Call a function; what is printed goes to the log, its answer through the pipe.

    Whatever it raises becomes an answer, too.
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    send(sender, f"{inside.token}{time.monotonic()}")
    try:
        answer = encoded(function())
    except BaseException as error:  # noqa: BLE001 - every way to end becomes an outcome here
        with suppress(BaseException):
            traceback.print_exc()
        answer = encoded(failure(error))
    if os.getpid() != own:  # the method has forked, and its other half goes on, too
        os._exit(0)
    try:
        send(sender, f"{inside.token}{answer.decode()}")
    except OSError:
        os.write(1, b"the pipe that the answer goes through was closed\n")  # into the log


def _opened(log: str) -> int:
    """Return a handle of the log; of nothing where it was made and cannot be written any more."""
    try:
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def send(sender: Connection, line: str) -> None:
    """Send a line, however long."""
    left = memoryview(f"{line}\n".encode())
    while left:
        left = left[os.write(sender.fileno(), left) :]


def _belong_to_the_server() -> None:
    """Be killed when the fork server ends, which it does when the parent does, however that dies.

    Else a trial that nobody waits for would go on beside the next run's. The server ends when
    nobody holds the pipe any more that it was given; multiprocessing hands every child one end.
    It hands on one of the tracker's, too, which would print a traceback of what a method writes.
    """
    close_inherited_pipes()
    die_with_parent()
    os.setsid()  # so that what it starts can be found when it is dead
    adopt_orphans()  # also where that moves to a session of its own
