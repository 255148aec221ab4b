"""What a pass's process sends: read as long as it lives, within bounds, believed only if ours."""

import math
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from msgspec.structs import replace

from bsrbench.harness.launch.processes.fork_server import START_SECONDS
from bsrbench.harness.plain_data import plain_text
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import Kind, decoded

LONGEST_WAIT = 5.0  # seconds at once; then a log that grows without end is noticed
PIPE_BYTES = 1 << 16
MOST_BYTES = 64 << 20  # of an answer; the longest, a timeline's, are below a mebibyte
MOST_SHOWN = 60


class AnswerRefused(Exception):  # noqa: N818 - it becomes the outcome of a pass
    """What a process sends or prints cannot be taken; the message says why."""


def wait_for(
    child: BaseProcess,
    receiver: Connection,
    kind: type[Kind],
    asked: float,
    timeout: float | None,
    token: str = "",
    look: Callable[[], None] = lambda: None,
) -> Kind | None:
    """Return what a child answers; nothing where it dies before, or closes its end of the pipe.

    Its time begins when it does: a server that still loads torch takes none of it.

    Args:
        child: the process.
        receiver: what its answers come through.
        kind: of answer that is expected.
        asked: when it was asked for, by the monotonic clock.
        timeout: seconds it may take; ``None`` waits as long as it lives.
        token: begins every line that is its own.
        look: is called every few seconds; raises ``AnswerRefused`` to end the waiting.
    """
    answers = _Answers(child, receiver, token, look)
    limit = START_SECONDS
    try:
        began = float(answers.next(time.monotonic() + limit))
        limit = timeout or math.inf
        result = read_answer(answers.next(began + limit), kind)
        return replace(result, start_seconds=began - asked)
    except TimeoutError:
        return kind(Status.TIMEOUT, f"not done after {limit:g} s")
    except (AnswerRefused, ValueError) as error:
        return kind(Status.CRASHED, plain_text(error))
    except EOFError:
        return None


class _Answers:
    """What a child sends, a line at a time, as long as it lives.

    Whoever else holds its end of the pipe, a process that it started say, can neither keep a dead
    child alive nor make anybody wait beyond the time.
    """

    def __init__(
        self, child: BaseProcess, receiver: Connection, token: str, look: Callable[[], None]
    ) -> None:
        self._child, self._receiver = child, receiver
        self._token, self._look = token.encode(), look
        self._rest = b""

    def next(self, ends: float) -> bytes:
        """Return the next line, without its token.

        Args:
            ends: until when to wait, by the monotonic clock.

        Raises:
            TimeoutError: it did not come in time.
            EOFError: the child is dead or has closed its end, and had not sent all of it.
            AnswerRefused: it is too long, or somebody else's.
        """
        parts, size = [], 0
        more = self._rest or self._more(ends)
        while b"\n" not in more:
            parts.append(more)
            size += len(more)
            if size > MOST_BYTES:
                raise AnswerRefused(f"its answer has more than {MOST_BYTES >> 20} MiB")
            more = self._more(ends)
        last, self._rest = more.split(b"\n", 1)
        line = b"".join([*parts, last])
        if not line.startswith(self._token):
            shown = line[:MOST_SHOWN].decode("ascii", "replace")
            raise AnswerRefused(
                "the method wrote into the pipe that the answer of its process goes through: "
                f"{shown!r}"
            )
        return line[len(self._token) :]

    def _more(self, ends: float) -> bytes:
        while True:
            left = max(0.0, ends - time.monotonic())
            ready = wait([self._receiver, self._child.sentinel], min(left, LONGEST_WAIT))
            if ready:
                break
            if left <= LONGEST_WAIT:
                raise TimeoutError
            self._look()
        if self._receiver not in ready:
            raise EOFError
        read = os.read(self._receiver.fileno(), PIPE_BYTES)
        if not read:
            raise EOFError
        return read


def read_answer(line: bytes, kind: type[Kind]) -> Kind:
    """Return what a line says of a process.

    Args:
        line: as the process sent it.
        kind: of answer that is expected.

    Raises:
        AnswerRefused: it is no such answer, or holds what no record can.
    """
    try:
        return decoded(kind, line)
    except (ValueError, RecursionError) as error:
        raise AnswerRefused(f"its answer is not the result of a pass ({error})") from error
