"""Why a pass's process ended without an answer."""

import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from bsrbench.harness.launch.processes.fork_server import Server
from bsrbench.harness.launch.processes.log_file import MOST_BYTES, is_too_long, last_lines
from bsrbench.harness.launch.processes.pass_answers import AnswerRefused
from bsrbench.harness.launch.processes.sweeper import DEAD, PAUSE_SECONDS, state
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import Answer

LAST_LINES = 3
CLOSING_SECONDS = 5.0  # for a process to end after it has closed the pipe for its answer
OUT_OF_MEMORY_KILLS = Path("/proc/vmstat")


def require_bounded(log: Path) -> None:
    """Check the size of a log.

    Raises:
        AnswerRefused: the process printed too much.
    """
    if is_too_long(log):
        raise AnswerRefused(f"the process printed more than {MOST_BYTES >> 30} GiB")


def death(child: BaseProcess, kills: int, log: Path, serving: Server) -> Answer | None:
    """Return the outcome of a child that ends without an answer; ``None`` if its server ended."""
    ends = time.monotonic() + CLOSING_SECONDS
    while not (gone := _is_gone(child)) and time.monotonic() < ends:
        child.join(PAUSE_SECONDS)
    lines = last_lines(log, LAST_LINES)
    output = f"; last output: {' | '.join(lines)}" if lines else ""
    if not gone:
        reason = f"the process closed the pipe for its answer, and was killed{output}"
        return Answer(Status.CRASHED, reason)
    serving.collect(child)
    if serving.lost(child):
        return None
    if child.exitcode == -signal.SIGKILL and kernel_kills() > kills:
        return Answer(Status.OUT_OF_MEMORY, "the kernel killed the process for lack of memory")
    return Answer(Status.CRASHED, f"the process ended with exit code {child.exitcode}{output}")


def _is_gone(child: BaseProcess) -> bool:
    """Return whether a process has ended, even if its server does not report it."""
    return child.exitcode is not None or state(child.pid or 0) in ("", *DEAD)


def kernel_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory since boot."""
    try:
        lines = OUT_OF_MEMORY_KILLS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
