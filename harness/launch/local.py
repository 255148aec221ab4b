"""Run each pass in a clean process of its own, forked from a server that has torch loaded."""

import ctypes
import json
import math
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.launch.cores import choose
from harness.launch.limits import Limits
from harness.launch.log_file import log_file
from harness.launch.server import PRELOADED, one_blas_thread
from harness.record import Status
from harness.spec import TrialSpec
from harness.step_cost import COSTS, StepCost, step_costs
from harness.training import Loader, workers
from harness.trial import CLOCK, SETTINGS, PassResult, check, perform, read_settings, timed

COMPILED_CODE = "TORCHINDUCTOR_CACHE_DIR"
LAST_LINES = 3
LONGEST_WAIT = 24 * 3600.0  # seconds; the system's call takes at most 24 days at once
PIPE_BYTES = 1 << 16
OURS = "BSRBENCH_"
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
OUT_OF_MEMORY_KILLS = Path("/proc/vmstat")
NONE = Limits()


@dataclass(frozen=True)
class Inside:
    """What holds inside a pass's process.

    Attributes:
        settings: of its environment.
        limits: what it may take.
        cores: what it is bound to; every usable core where none is named.
    """

    settings: dict[str, str] = field(default_factory=dict)
    limits: Limits = NONE
    cores: tuple[int, ...] = ()


class LocalLauncher:
    """Runs passes on this machine, one at a time; the parent sleeps while one runs.

    Args:
        load: turns method names into methods; must be importable by name in another process.
        limits: what a pass may take.
    """

    def __init__(self, load: Loader, limits: Limits = NONE) -> None:
        self._load = load
        self._limits = limits
        self._running: set[BaseProcess] = set()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._compiled = Path(tempfile.mkdtemp(prefix="bsrbench-compiled-"))
        weakref.finalize(self, shutil.rmtree, self._compiled, ignore_errors=True)

    def check(self, spec: TrialSpec) -> PassResult:
        """Return whether the trial can be started at all; fetches weights, without a limit."""
        return self._call(check, spec.model_dump_json())

    def settings(self, device: str) -> dict[str, str]:
        """Return the settings that decide numbers in a pass's process.

        The server has the variables of when it started, and nothing that this process has set in
        torch or timm since.

        Raises:
            BadInput: the process that was asked died.
        """
        result = self._call(read_settings, device)
        if result.status != Status.COMPLETED:
            raise BadInput(f"asking torch and timm for their settings failed: {result.reason}")
        found: dict[str, str] = result.reading[SETTINGS]
        return found

    def costs(self, specs: Sequence[TrialSpec]) -> list[StepCost]:
        """Return what a step of each trial takes, predicted in one process.

        Raises:
            BadInput: that process died.
        """
        result = self._call(step_costs, [spec.model_dump_json() for spec in specs])
        if result.status != Status.COMPLETED:
            raise BadInput(f"predicting {specs[0].label()} and others failed: {result.reason}")
        return [StepCost(**cost) for cost in result.reading[COSTS]]

    def perform(
        self,
        pass_name: str,
        spec: TrialSpec,
        *,
        log: Path | None = None,
        on_cores: Sequence[int] = (),
        **keeping: Any,
    ) -> PassResult:
        """Run one pass of a trial and return how it ended, whatever happened to its process.

        Args:
            pass_name: one of ``harness.trial.PASSES``.
            spec: the trial.
            log: where what the process prints is kept; nowhere unless said.
            on_cores: the cores it is bound to; a clock pass gets its own unless said.
            **keeping: what the training pass is told about its checkpoint.
        """
        # Compiled code is shared by the passes of a row and by nothing else: compiling is timed.
        cache = str(self._compiled / spec.row_id())
        settings = {COMPILED_CODE: cache} if spec.workload.compiled_step else {}
        if pass_name == CLOCK and not on_cores:
            on_cores = choose(spec.workload.threads)
        inside = Inside(settings, self._limits, tuple(on_cores))
        text = spec.model_dump_json()
        return timed(lambda: self._call(perform, pass_name, text, keeping, inside=inside, log=log))

    def end(self) -> None:
        """Kill what runs, at once."""
        for child in list(self._running):
            child.kill()

    def _call(
        self,
        function: Callable[..., dict[str, Any]],
        *arguments: Any,
        inside: Inside | None = None,
        log: Path | None = None,
    ) -> PassResult:
        kills = _kernel_kills()
        inside = inside or Inside()
        with log_file(log) as said:
            receiver, sender = self._context.Pipe(duplex=False)
            asked = time.monotonic()
            child = self._context.Process(
                target=_child,
                args=(sender, str(said), _settings(), inside, function, (*arguments, self._load)),
                daemon=not workers(),  # a daemon may have no children of its own
            )
            with one_blas_thread():  # for the server, should the first child start it
                child.start()
            self._running.add(child)
            sender.close()
            try:
                result = _wait(child, receiver, asked, inside.limits.timeout_seconds)
                return inside.limits.explained(result or _death(child, kills, said))
            finally:
                self._running.discard(child)
                child.kill()
                child.join()
                _kill_what_it_started(child)
                receiver.close()


def _wait(
    child: BaseProcess, receiver: Connection, asked: float, timeout: float | None
) -> PassResult | None:
    """Return what a child answers; nothing where it dies before.

    Its time begins when it does: a server that still loads torch takes none of it.
    """
    answers = _Answers(child, receiver)
    try:
        began = float(answers.next(math.inf))
        result = PassResult(**json.loads(answers.next(began + (timeout or math.inf))))
        return replace(result, start_seconds=began - asked)
    except TimeoutError:
        return PassResult(Status.TIMEOUT, f"not done after {timeout:g} s")
    except EOFError:
        return None


class _Answers:
    """What a child sends, a line at a time, as long as it lives.

    Whoever else holds its end of the pipe, a process that it started say, can neither keep a dead
    child alive nor make anybody wait beyond the time.
    """

    def __init__(self, child: BaseProcess, receiver: Connection) -> None:
        self._child, self._receiver = child, receiver
        self._read = b""

    def next(self, ends: float) -> bytes:
        """Return the next line.

        Args:
            ends: until when to wait, by the monotonic clock.

        Raises:
            TimeoutError: it did not come in time.
            EOFError: the child is dead, and had not sent all of it.
        """
        while b"\n" not in self._read:
            left = max(0.0, ends - time.monotonic())
            ready = wait([self._receiver, self._child.sentinel], min(left, LONGEST_WAIT))
            if not ready:
                if left <= LONGEST_WAIT:
                    raise TimeoutError
                continue
            if self._receiver not in ready:
                raise EOFError
            read = os.read(self._receiver.fileno(), PIPE_BYTES)
            if not read:
                raise EOFError
            self._read += read
        line, self._read = self._read.split(b"\n", 1)
        return line


def _send(sender: Connection, line: str) -> None:
    left = memoryview(f"{line}\n".encode())
    while left:
        left = left[os.write(sender.fileno(), left) :]


def _kill_what_it_started(child: BaseProcess) -> None:
    """Kill a dead child's process group; nothing may run beside the next pass."""
    if child.pid is not None:
        with suppress(ProcessLookupError, PermissionError):  # there are none, as a rule
            os.killpg(child.pid, signal.SIGKILL)


def _settings() -> dict[str, str]:
    """Return our settings as they are now: the server has those of when it started."""
    return {name: value for name, value in os.environ.items() if name.startswith(OURS)}


def _child(
    sender: Connection,
    log: str,
    settings: dict[str, str],
    inside: Inside,
    function: Callable[..., dict[str, Any]],
    arguments: Any,
) -> None:
    """Run in the child: what is printed goes to the log, the answer goes through the pipe."""
    _die_with_the_server()
    os.setsid()  # so that what it starts can be found when it is dead
    os.environ.update(settings | inside.settings)
    if inside.cores:
        os.sched_setaffinity(0, inside.cores)
    inside.limits.impose()
    _send(sender, str(time.monotonic()))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    with Path(log).open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    _send(sender, json.dumps(function(*arguments)))


def _die_with_the_server() -> None:
    """Be killed when the fork server ends, which it does when the parent does, however that dies.

    Else a trial that nobody waits for would go on beside the next run's. The server ends when
    nobody holds the pipe any more that it was given; multiprocessing hands every child one end.
    """
    server: Any = multiprocessing.forkserver._forkserver  # noqa: SLF001 - there is no public way
    os.close(server._forkserver_alive_fd)  # noqa: SLF001 - see above
    server._forkserver_alive_fd = None  # noqa: SLF001 - see above
    with suppress(OSError, AttributeError):  # Linux has it
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)


def _death(child: BaseProcess, kills: int, log: Path) -> PassResult:
    """Return the outcome of a child that ends without an answer."""
    child.join()
    exit_code = child.exitcode
    said: list[str] = []
    with suppress(OSError):  # the folder is gone
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:]
    if exit_code == -signal.SIGKILL and _kernel_kills() > kills:
        return PassResult(Status.OUT_OF_MEMORY, "the kernel killed the process for its memory")
    words = f"; it said last: {' | '.join(said)}" if said else ""
    return PassResult(Status.CRASHED, f"the process ended with exit code {exit_code}{words}")


def _kernel_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since boot."""
    try:
        lines = OUT_OF_MEMORY_KILLS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
