"""Run each pass in a clean process of its own, forked from a server that has torch loaded."""

import ctypes
import json
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import signal
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.record import Status
from harness.spec import TrialSpec
from harness.training import Loader, workers
from harness.trial import PassResult, check, perform

PRELOADED = ["harness.trial", "methods", "torch._dynamo", "timm", "peft"]
COMPILED_CODE = "TORCHINDUCTOR_CACHE_DIR"
LAST_LINES = 3
OURS = "BSRBENCH_"
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
OUT_OF_MEMORY_KILLS = Path("/proc/vmstat")


class LocalLauncher:
    """Runs passes on this machine, one at a time; the parent sleeps while one runs.

    Args:
        load: turns method names into methods; must be importable by name in another process.
        timeout_seconds: a pass that takes longer is killed; ``None`` waits for ever.
    """

    def __init__(self, load: Loader, timeout_seconds: float | None = None) -> None:
        self._load = load
        self._timeout = timeout_seconds
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._compiled = Path(tempfile.mkdtemp(prefix="bsrbench-compiled-"))
        weakref.finalize(self, shutil.rmtree, self._compiled, ignore_errors=True)

    def check(self, spec: TrialSpec) -> PassResult:
        """Return whether the trial can be started at all; fetches weights."""
        return self._call(check, spec.model_dump_json())

    def perform(self, pass_name: str, spec: TrialSpec, **keeping: Any) -> PassResult:
        """Run one pass of a trial and return how it ended, whatever happened to its process."""
        # Compiled code is shared by the passes of a row and by nothing else: compiling is timed.
        cache = str(self._compiled / spec.row_id())
        settings = {COMPILED_CODE: cache} if spec.workload.compiled_step else {}
        return self._call(perform, pass_name, spec.model_dump_json(), keeping, settings=settings)

    def _call(
        self,
        function: Callable[..., dict[str, Any]],
        *arguments: Any,
        settings: dict[str, str] | None = None,
    ) -> PassResult:
        kills = _kernel_kills()
        with tempfile.NamedTemporaryFile(suffix=".log") as log:
            receiver, sender = self._context.Pipe(duplex=False)
            asked = time.monotonic()
            child = self._context.Process(
                target=_child,
                args=(
                    sender,
                    log.name,
                    _settings() | (settings or {}),
                    function,
                    (*arguments, self._load),
                ),
                daemon=not workers(),  # a daemon may have no children of its own
            )
            with _one_blas_thread():  # for the server, which the first child starts
                child.start()
            sender.close()
            try:
                return self._wait(child, receiver, asked, kills, Path(log.name))
            finally:
                child.kill()
                child.join()
                receiver.close()

    def _wait(
        self, child: BaseProcess, receiver: Connection, asked: float, kills: int, log: Path
    ) -> PassResult:
        try:
            if not receiver.poll(self._timeout):
                return PassResult(Status.TIMEOUT, f"not done after {self._timeout:g} s")
            began = float(receiver.recv_bytes())
            left = None if self._timeout is None else self._timeout - (time.monotonic() - asked)
            if not receiver.poll(left):
                return PassResult(Status.TIMEOUT, f"not done after {self._timeout:g} s")
            result = PassResult(**json.loads(receiver.recv_bytes()))
            return replace(result, start_seconds=began - asked)
        except EOFError:
            child.join()
            return _death(child.exitcode, kills, log)


def _settings() -> dict[str, str]:
    """Return our settings as they are now: the server has those of when it started."""
    return {name: value for name, value in os.environ.items() if name.startswith(OURS)}


def _child(
    sender: Connection,
    log: str,
    settings: dict[str, str],
    function: Callable[..., dict[str, Any]],
    arguments: Any,
) -> None:
    """Run in the child: what is printed goes to the log, the answer goes through the pipe."""
    _die_with_the_server()
    os.environ.update(settings)
    sender.send_bytes(str(time.monotonic()).encode())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    with Path(log).open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sender.send_bytes(json.dumps(function(*arguments)).encode())


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


def _death(exit_code: int | None, kills: int, log: Path) -> PassResult:
    """Return the outcome of a child that ended without an answer."""
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


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """Keep numpy's BLAS from starting threads in the server: a fork would lose them."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
