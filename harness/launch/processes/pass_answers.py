"""Read the answers of a pass's process, with limits on time and size, and check their token."""

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

LONGEST_WAIT = 5.0  # seconds between checks of the size of the log
PIPE_BYTES = 1 << 16
MOST_BYTES = 64 << 20  # size limit of an answer; the longest, with a timeline, are below 1 MiB
MOST_SHOWN = 60


class AnswerRefused(Exception):  # noqa: N818 - it becomes the outcome of a pass
    """The answer or the output of a process is not acceptable; the message says why."""


def wait_for(
    child: BaseProcess,
    receiver: Connection,
    kind: type[Kind],
    asked: float,
    timeout: float | None,
    token: str = "",
    look: Callable[[], None] = lambda: None,
) -> Kind | None:
    """Return a child's answer; ``None`` if the child dies first, or closes its end of the pipe.

    The time limit starts when the child starts, so it does not include loading torch in the server.

    Args:
        child: the process.
        receiver: the pipe for its answers.
        kind: the expected type of the answer.
        asked: when the process was requested, by the monotonic clock.
        timeout: time limit in seconds; ``None`` is no limit.
        token: prefix of every line that the child itself sends.
        look: called every few seconds; raises ``AnswerRefused`` to stop waiting.
    """
    answers = AnswerLines(child, receiver, token, look)
    limit = START_SECONDS
    try:
        began = float(answers.next(time.monotonic() + limit))
        limit = timeout or math.inf
        result = read_answer(answers.next(began + limit), kind)
        return replace(result, start_seconds=began - asked)
    except TimeoutError:
        return kind(Status.TIMEOUT, f"not finished after {limit:g} s")
    except (AnswerRefused, ValueError) as error:
        return kind(Status.CRASHED, plain_text(error))
    except EOFError:
        return None


class AnswerLines:
    """The lines that a child sends while it lives.

    Another process that holds the child's end of the pipe, for example one that the child has
    started, cannot make the reader wait after the child's death or beyond the time limit.
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
            ends: when to stop waiting, by the monotonic clock.

        Raises:
            TimeoutError: the line did not arrive in time.
            EOFError: the child died or closed its end before it sent the whole line.
            AnswerRefused: the line is too long, or does not begin with the token.
        """
        parts, size = [], 0
        more = self._rest or self._more(ends)
        while b"\n" not in more:
            parts.append(more)
            size += len(more)
            if size > MOST_BYTES:
                raise AnswerRefused(
                    f"the answer of the process has more than {MOST_BYTES >> 20} MiB"
                )
            more = self._more(ends)
        last, self._rest = more.split(b"\n", 1)
        line = b"".join([*parts, last])
        if not line.startswith(self._token):
            shown = line[:MOST_SHOWN].decode("ascii", "replace")
            raise AnswerRefused(
                f"the method wrote into the pipe for the answer of its process: {shown!r}"
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
    """Return the answer in a line.

    Args:
        line: the line that the process sent.
        kind: the expected type of the answer.

    Raises:
        AnswerRefused: the line is not an answer of this type, or contains a value that no record
            may contain.
    """
    try:
        return decoded(kind, line)
    except (ValueError, RecursionError) as error:
        raise AnswerRefused(
            f"the answer of the process is not the result of a pass ({error})"
        ) from error
