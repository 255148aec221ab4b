"""A timed pass in a process of its own, which sleeps until it is its turn."""

import math
import multiprocessing
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

from msgspec import structs

from bsrbench.harness.launch.processes.fork_server import START_SECONDS, Server
from bsrbench.harness.launch.processes.log_file import log_file
from bsrbench.harness.launch.processes.pass_answers import AnswerLines, AnswerRefused, read_answer
from bsrbench.harness.launch.processes.pass_death import death, kernel_kills, require_bounded
from bsrbench.harness.launch.processes.pass_process import PassSettings, run, send
from bsrbench.harness.launch.turns.resident import ServerLost
from bsrbench.harness.plain_data import plain_text
from bsrbench.harness.profiler.clock_visits import END, Visited
from bsrbench.harness.records.trial_record import Status, utc_now
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.trial.pass_result import Answer, PassResult, VisitResult, encoded
from bsrbench.harness.trial.trial_passes import perform
from bsrbench.harness.workload.images.workers import requested_workers

ENDED_EARLY = "the process of the timed pass ended before its turns did"


@dataclass(frozen=True)
class TurnsOfAPipe:
    """The turns of a timed pass as its process gets them: it answers, and sleeps until the next.

    Attributes:
        sender: the pipe for the answers.
        orders: the pipe for the kinds of visits.
        token: prefix of every answer.
    """

    sender: Connection
    orders: Connection
    token: str

    def __call__(self, visited: Visited) -> str:
        """Send what is known of the last visit, and return the kind of the next one."""
        send(self.sender, f"{self.token}{encoded(VisitResult(visited=visited)).decode()}")
        return self.orders.recv_bytes().decode()


def serve(pass_name: str, spec: TrialSpec, load: Loader, turns: TurnsOfAPipe) -> PassResult:
    """Run a timed pass in this process until its turns end."""
    return perform(pass_name, spec, None, load, turns)


class ResidentProcess:
    """A timed pass in a process of its own; making it starts, builds and warms up the trial.

    Args:
        spec: the trial.
        load: returns the method of a name.
        inside: the settings of the process.
        served_by: the fork server, and the name of the pass.
        log: the file for its output; by default it is not kept.

    Attributes:
        cores: the cores to which the process is bound.
        ready: how building and warming up ended.

    Raises:
        ServerLost: the fork server was killed.
        BadInput: no process can be started here.
    """

    def __init__(
        self,
        spec: TrialSpec,
        load: Loader,
        inside: PassSettings,
        served_by: tuple[Server, str],
        log: Path | None = None,
    ) -> None:
        self.cores, self._limits = inside.cores, inside.limits
        self._kills = kernel_kills()
        self._server, self._pass_name = served_by
        self._failure: PassResult | None = None
        self._began_at, self._active_seconds = utc_now(), 0.0
        self._start_seconds: float | None = None
        with ExitStack() as stack, self._timed():
            self._log = stack.enter_context(log_file(log, self._server.folder))
            token = secrets.token_hex(8)
            self._start(spec, load, replace(inside, log=str(self._log), token=token), stack)
            self.ready = self._visited()
            self._kept = stack.pop_all()

    def visit(self, kind: str) -> VisitResult:
        """Let the process make a visit, and wait for its end.

        Raises:
            ServerLost: the fork server was killed.
        """
        with self._timed():
            self._order(kind)
            return self._visited()

    def end(self) -> PassResult:
        """End the process, and return what it measured, or how it failed.

        Raises:
            ServerLost: the fork server was killed.
        """
        with self._timed():
            self._order(END)
            result = self._failure or self._result(self._line(self._seconds()))
        self.close()
        return structs.replace(
            self._limits.explained(result),
            start_seconds=self._start_seconds,
            began_at=self._began_at,
            seconds=self._active_seconds,
        )

    def close(self) -> None:
        """Kill the process, if it has not ended."""
        self._kept.close()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add the time of the body to the time of the pass."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._active_seconds += time.monotonic() - began

    def _start(self, spec: TrialSpec, load: Loader, inside: PassSettings, stack: ExitStack) -> None:
        """Start the process; closing the stack kills it."""
        context = multiprocessing.get_context("forkserver")
        receiver, sender = context.Pipe(duplex=False)
        orders, self._orders = context.Pipe(duplex=False)
        for pipe in (receiver, sender, orders, self._orders):
            stack.enter_context(pipe)
        serving = partial(
            serve, self._pass_name, spec, load, TurnsOfAPipe(sender, orders, inside.token)
        )
        self._child = context.Process(
            target=run,
            args=(sender, inside, serving),
            daemon=not requested_workers(),  # a daemon cannot start child processes
        )
        self._answers = AnswerLines(
            self._child, receiver, inside.token, lambda: require_bounded(self._log)
        )
        asked = time.monotonic()
        self._server.begin(self._child)
        stack.callback(self._server.finish, self._child)
        sender.close()
        orders.close()
        line = self._line(START_SECONDS)
        try:
            self._start_seconds = float(line or 0) - asked
        except ValueError as error:
            self._failure = PassResult(Status.CRASHED, plain_text(error))

    def _order(self, kind: str) -> None:
        if self._failure is None:
            with suppress(OSError):  # it has ended; the missing answer says how
                self._orders.send_bytes(kind.encode())

    def _visited(self) -> VisitResult:
        """Return the answer to an order, or how the pass has failed."""
        line = b"" if self._failure else self._line(self._seconds())
        if self._failure is None:
            try:
                return read_answer(line, VisitResult)
            except AnswerRefused:  # the pass has ended
                result = self._result(line)
                early = result.status is Status.COMPLETED
                self._failure = PassResult(Status.CRASHED, ENDED_EARLY) if early else result
        failure = self._failure
        return VisitResult(failure.status, failure.reason, failure.bad_input)

    def _result(self, line: bytes) -> PassResult:
        """Return the result of the pass from its last line."""
        if self._failure is not None:
            return self._failure
        try:
            return read_answer(line, PassResult)
        except AnswerRefused as error:
            return PassResult(Status.CRASHED, plain_text(error))

    def _line(self, seconds: float) -> bytes:
        """Return the next line of the process; if there is none, keep the failure.

        Raises:
            ServerLost: the fork server was killed.
        """
        try:
            return self._answers.next(time.monotonic() + seconds)
        except TimeoutError:
            failure = Answer(Status.TIMEOUT, f"not finished after {seconds:g} s")
        except AnswerRefused as error:
            failure = Answer(Status.CRASHED, plain_text(error))
        except EOFError:
            ended = death(self._child, self._kills, self._log, self._server)
            if ended is None:
                raise ServerLost from None
            failure = ended
        self._failure = PassResult(failure.status, failure.reason)
        return b""

    def _seconds(self) -> float:
        """Return the time limit of a visit, and of building and warming up."""
        return self._limits.timeout_seconds or math.inf
