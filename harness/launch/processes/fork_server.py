"""Start, watch and end the fork servers, from which every pass is forked.

This module imports little, so that a command can start the server before it loads torch itself.
"""

import atexit
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from multiprocessing.forkserver import ForkServer
from multiprocessing.process import BaseProcess

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes import sweeper
from bsrbench.harness.launch.processes.multiprocessing_internals import (
    another_forkserver,
    forking_from,
    forkserver_pid,
    main_forkserver,
    make_sockets_in,
)
from bsrbench.harness.launch.processes.run_folder import PREFIX, make_run_folder
from bsrbench.harness.launch.processes.server_environment import (
    NOTHING_MORE,
    server_environment,
)
from bsrbench.harness.meters.sleeping_threads import SLEEPING_THREADS, threads_sleep

PRELOADED = (
    "bsrbench.harness.launch.processes.server_preload",
    "bsrbench.harness.trial.trial_passes",
    "bsrbench.harness.launch.processes.pass_process",
    *("torch._dynamo", "timm", "peft"),
    "bsrbench.harness.launch.processes.counting_preload",
)
START_SECONDS = 600.0  # enough for a server that loads torch from a slow disk
COLLECT_SECONDS = 60.0  # until a killed process has ended and its server has reported it
LOOK_SECONDS = 0.25  # between checks whether the server is stopped
STOPPED_LOOKS = 20  # a server that is stopped at this many checks in a row is killed
LEAVE_SECONDS = 30.0
UNSAID = 255  # multiprocessing's exit code if the server closed its pipe without reporting one
ENDING_SECONDS = 5.0  # a killed server closes its pipes before its exit code is available


class Server:
    """A fork server of this process, and all processes forked from it.

    Args:
        forkserver: multiprocessing's part of it.
        own: environment variables of this server alone.

    Attributes:
        folder: the folder of the run's temporary files; it is removed when this process ends.
    """

    def __init__(self, forkserver: ForkServer, own: Mapping[str, str] = NOTHING_MORE) -> None:
        self._forkserver, self._own = forkserver, own
        self.folder = make_run_folder()
        self._mark = secrets.token_hex(16)
        self._group = sweeper.make_group(f"{PREFIX}{self._mark}")
        self._owner = os.getpid()
        self._lock = threading.RLock()  # no sweep while a process is being started
        self._forked: dict[BaseProcess, int | None] = {}  # process -> id of its server
        self._loaders: list[str] = []  # the packages that load methods
        self._sweeper, self._held = self._start_sweeper()
        atexit.register(self._end)

    def start(self) -> None:
        """Start the server, unless it runs already; it imports large packages in the background."""
        with self._lock, self._environment():
            self._ensure()

    def preload(self, package: str) -> None:
        """Let the server import the package that loads methods, when the server starts."""
        if package not in self._loaders:
            self._loaders.append(package)

    def begin(self, child: BaseProcess) -> None:
        """Fork a process from the server; a server that dies or does not answer is replaced.

        Raises:
            BadInput: two servers in a row could not start it.
        """
        for last in (False, True):
            with (
                self._lock,
                self._environment(),
                self._watched(START_SECONDS),
                forking_from(self._forkserver),
            ):
                try:
                    self._ensure()
                    child.start()
                except (OSError, EOFError) as error:
                    if last:
                        raise BadInput(_why_not_started(error)) from error
                    self._kill()
                else:
                    self._forked[child] = self._pid()
                    return

    def finish(self, child: BaseProcess) -> None:
        """Kill a process, wait until it has ended, and kill all processes that it has started."""
        child.kill()
        self.collect(child)
        with self._lock:
            self._forked.pop(child, None)
            if child.pid is not None:
                with suppress(OSError):  # usually there are none
                    os.killpg(child.pid, signal.SIGKILL)
            self._sweep()

    def collect(self, child: BaseProcess) -> None:
        """Wait until a process has ended; a server that does not report this is killed."""
        with self._watched(COLLECT_SECONDS):
            child.join()

    def lost(self, child: BaseProcess) -> bool:
        """Return whether the server that a process was forked from has ended."""
        forked_from = self._forked.get(child)
        if forked_from is None:
            return False
        ends = time.monotonic() + (ENDING_SECONDS if child.exitcode == UNSAID else 0.0)
        while not (over := forked_from != self._pid() or _has_ended(forked_from)):
            if time.monotonic() > ends:
                break
            time.sleep(sweeper.PAUSE_SECONDS)
        return over

    def end_passes(self) -> None:
        """Kill the running processes at once; this is safe in a signal handler."""
        for child in list(self._forked):
            child.kill()

    def _pid(self) -> int | None:
        return forkserver_pid(self._forkserver)

    def _environment(self) -> AbstractContextManager[None]:
        """Set the environment variables in which the server starts."""
        return server_environment(self._mark, self.folder, self._own)

    def _ensure(self) -> None:
        """Start the server if none runs; first, kill all remaining processes of an earlier one."""
        before = self._pid()
        if before is not None and _has_ended(before):
            sweeper.end_all(self._mark, self._group)
        self._forkserver.set_forkserver_preload([*PRELOADED, *self._loaders])
        make_sockets_in(str(self.folder))
        # A starting Python would print a traceback on Ctrl-C; later the server ignores it.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        now = self._pid()
        if now != before and now is not None:
            sweeper.join_group(self._group, now)
        if self._sweeper.poll() is not None:  # it was killed
            os.close(self._held)
            self._sweeper, self._held = self._start_sweeper()

    def _start_sweeper(self) -> tuple["subprocess.Popen[bytes]", int]:
        """Start the sweeper, which outlives this process; return it and our end of its pipe."""
        waits, held = os.pipe()
        arguments = [str(os.getpid()), self._mark, self._group, str(self.folder)]
        try:
            started = subprocess.Popen(
                [sys.executable, "-I", "-S", sweeper.__file__, *arguments],
                stdin=waits,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={name: value for name, value in os.environ.items() if name != sweeper.MARK},
                start_new_session=True,
            )
        except OSError as error:
            os.close(held)
            sweeper.remove_folder(str(self.folder))
            raise BadInput(f"no process can be started: {error.strerror or error}") from error
        finally:
            os.close(waits)
        return started, held

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Kill the server if the body takes too long, or if the server is stopped."""
        done = threading.Event()
        watching = threading.Thread(target=self._watch, args=(done, seconds), daemon=True)
        watching.start()
        try:
            yield
        finally:
            done.set()
            watching.join()

    def _watch(self, done: threading.Event, seconds: float) -> None:
        ends, stopped = time.monotonic() + seconds, 0
        while not done.wait(LOOK_SECONDS):
            pid = self._pid()
            if pid is None:
                continue
            stopped = stopped + 1 if sweeper.state(pid) in ("T", "t") else 0
            if stopped >= STOPPED_LOOKS or time.monotonic() > ends:
                sweeper.kill(pid)

    def _kill(self) -> None:
        """Kill the server and wait until it has ended, without collecting its exit code."""
        pid = self._pid()
        if pid is not None:
            sweeper.kill(pid)
            ends = time.monotonic() + COLLECT_SECONDS
            while not _has_ended(pid) and time.monotonic() < ends:
                time.sleep(sweeper.PAUSE_SECONDS)

    def _sweep(self) -> None:
        """Kill the processes that ended passes have left, so that the next pass runs alone."""
        root = self._pid()
        ends = time.monotonic() + COLLECT_SECONDS
        while root is not None and time.monotonic() < ends:
            running = {child.pid for child in list(self._forked) if child.pid is not None}
            left = sweeper.strays(root, running)
            for pid in left:
                sweeper.kill(pid)
            if all(state in sweeper.DEAD for state in left.values()):
                return
            time.sleep(sweeper.PAUSE_SECONDS)

    def _end(self) -> None:
        """Let the sweeper end all remaining processes, and wait for it."""
        if os.getpid() != self._owner:  # this is a forked copy of the process
            return
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(self._held)
        with suppress(subprocess.TimeoutExpired):
            self._sweeper.wait(LEAVE_SECONDS)


@cache
def server() -> Server:
    """Return the server of this process; the first call creates it.

    Raises:
        BadInput: no temporary folder can be made, or no process can be started.
    """
    return Server(main_forkserver())


@cache
def server_of_sleepers() -> Server:
    """Return the server of processes whose threads sleep while they wait, instead of spinning.

    It has an environment of its own, because a library reads the variables when it is loaded. If
    this process has that environment already, it is the same server.

    Raises:
        BadInput: no temporary folder can be made, or no process can be started.
    """
    if threads_sleep():
        return server()
    return Server(another_forkserver(), SLEEPING_THREADS)


def start(package: str) -> None:
    """Start the server, unless it runs already.

    Args:
        package: the package that loads methods; the server imports it, too.
    """
    server().preload(package)
    server().start()


def _has_ended(pid: int) -> bool:
    """Return whether a child process has ended, without collecting its exit code."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _why_not_started(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or "it ended while starting"
    return (
        f"the fork server cannot start the processes of passes ({type(error).__name__}: {reason}): "
        "check its output above, the free memory and the limits of ulimit"
    )
