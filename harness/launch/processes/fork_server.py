"""The fork server that every pass is forked from: its start, its end, and what it leaves behind.

Loads nothing itself, so that a command can start the server and load torch meanwhile.
"""

import atexit
import multiprocessing.forkserver
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.process import BaseProcess

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes import sweeper
from bsrbench.harness.launch.processes.multiprocessing_internals import (
    forkserver_pid,
    make_sockets_in,
)
from bsrbench.harness.launch.processes.run_folder import PREFIX, make_run_folder
from bsrbench.harness.launch.processes.server_environment import server_environment

PRELOADED = (
    "bsrbench.harness.launch.processes.server_preload",
    "bsrbench.harness.trial.trial_passes",
    "bsrbench.harness.launch.processes.pass_process",
    *("torch._dynamo", "timm", "peft"),
)
START_SECONDS = 600.0  # for a server that loads torch from a slow disk
COLLECT_SECONDS = 60.0  # for a killed process to be gone, and its server to say so
LOOK_SECONDS = 0.25
STOPPED_LOOKS = 20  # a server that is stopped as often as that in turn will not go on by itself
LEAVE_SECONDS = 30.0
UNSAID = 255  # multiprocessing's exit code where the server's pipe closed and nothing was said
ENDING_SECONDS = 5.0  # a server that is killed closes its pipes before it can be waited for


class Server:
    """The fork server of this process, and all that is forked from it.

    Attributes:
        folder: where everything temporary of the run is made; it goes when this process ends.
    """

    def __init__(self) -> None:
        self.folder = make_run_folder()
        self._mark = secrets.token_hex(16)
        self._group = sweeper.make_group(f"{PREFIX}{self._mark}")
        self._owner = os.getpid()
        self._lock = threading.RLock()  # nobody sweeps while a process is being started
        self._forked: dict[BaseProcess, int | None] = {}  # and from which server
        self._loaders: list[str] = []  # the packages that find methods
        self._sweeper, self._held = self._start_sweeper()
        atexit.register(self._end)

    def start(self) -> None:
        """Start the server, unless it runs already; it loads what is slow beside this process."""
        with self._lock, server_environment(self._mark, self.folder):
            self._ensure()

    def preload(self, package: str) -> None:
        """Have the package that finds methods loaded by the server, if that is not running yet."""
        if package not in self._loaders:
            self._loaders.append(package)

    def begin(self, child: BaseProcess) -> None:
        """Start a process of the server; a server that dies of it or does not answer is replaced.

        Raises:
            BadInput: two servers in turn could not start it.
        """
        for last in (False, True):
            with (
                self._lock,
                server_environment(self._mark, self.folder),
                self._watched(START_SECONDS),
            ):
                try:
                    self._ensure()
                    child.start()
                except (OSError, EOFError) as error:
                    if last:
                        raise BadInput(_why_not_started(error)) from error
                    self._kill()
                else:
                    self._forked[child] = forkserver_pid()
                    return

    def finish(self, child: BaseProcess) -> None:
        """Kill a process, wait until it is gone, and kill all that it has started."""
        child.kill()
        self.collect(child)
        with self._lock:
            self._forked.pop(child, None)
            if child.pid is not None:
                with suppress(OSError):  # there are none, as a rule
                    os.killpg(child.pid, signal.SIGKILL)
            self._sweep()

    def collect(self, child: BaseProcess) -> None:
        """Wait until a process is gone; a server that does not say so is killed."""
        with self._watched(COLLECT_SECONDS):
            child.join()

    def lost(self, child: BaseProcess) -> bool:
        """Return whether the server that a process was forked from has ended."""
        forked_from = self._forked.get(child)
        if forked_from is None:
            return False
        ends = time.monotonic() + (ENDING_SECONDS if child.exitcode == UNSAID else 0.0)
        while not (over := forked_from != forkserver_pid() or _has_ended(forked_from)):
            if time.monotonic() > ends:
                break
            time.sleep(sweeper.PAUSE_SECONDS)
        return over

    def end_passes(self) -> None:
        """Kill what runs, at once; may be called while a signal is handled."""
        for child in list(self._forked):
            child.kill()

    def _ensure(self) -> None:
        """Start the server if none runs; first, kill all that is left of one that ended."""
        before = forkserver_pid()
        if before is not None and _has_ended(before):
            sweeper.end_all(self._mark, self._group)
        multiprocessing.forkserver.set_forkserver_preload([*PRELOADED, *self._loaders])
        make_sockets_in(str(self.folder))
        # Python's own start would end with a traceback on Ctrl-C; the server ignores it later.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            multiprocessing.forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        now = forkserver_pid()
        if now != before and now is not None:
            sweeper.join_group(self._group, now)
        if self._sweeper.poll() is not None:  # somebody has killed it
            os.close(self._held)
            self._sweeper, self._held = self._start_sweeper()

    def _start_sweeper(self) -> tuple["subprocess.Popen[bytes]", int]:
        """Start what outlives this process; return it, and the end of a pipe that it waits for."""
        waits, held = os.pipe()
        given = [str(os.getpid()), self._mark, self._group, str(self.folder)]
        try:
            started = subprocess.Popen(
                [sys.executable, "-I", "-S", sweeper.__file__, *given],
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
        """Kill the server if what waits for it is not done in time, or if the server is stopped."""
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
            pid = forkserver_pid()
            if pid is None:
                continue
            stopped = stopped + 1 if sweeper.state(pid) in ("T", "t") else 0
            if stopped >= STOPPED_LOOKS or time.monotonic() > ends:
                sweeper.kill(pid)

    def _kill(self) -> None:
        """Kill the server and wait until it is gone, without collecting what it ended with."""
        pid = forkserver_pid()
        if pid is not None:
            sweeper.kill(pid)
            ends = time.monotonic() + COLLECT_SECONDS
            while not _has_ended(pid) and time.monotonic() < ends:
                time.sleep(sweeper.PAUSE_SECONDS)

    def _sweep(self) -> None:
        """Kill what passes that have ended have left; nothing may run beside the next pass."""
        root = forkserver_pid()
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
        """Let the sweeper end all that is left, and wait for it."""
        if os.getpid() != self._owner:  # a fork of ours ends
            return
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(self._held)
        with suppress(subprocess.TimeoutExpired):
            self._sweeper.wait(LEAVE_SECONDS)


@cache
def server() -> Server:
    """Return the server of this process, which has one at most.

    Raises:
        BadInput: there is no place for temporary files, or no process can be started.
    """
    return Server()


def start(package: str) -> None:
    """Start the server, unless it runs already.

    Args:
        package: the one that finds methods, which the server loads as well.
    """
    server().preload(package)
    server().start()


def _has_ended(pid: int) -> bool:
    """Return whether a child of ours has ended; what it ended with stays to be collected."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _why_not_started(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or "it ended as it was started"
    return (
        f"the server that passes are forked from does not start them ({type(error).__name__}: "
        f"{reason}): look at what it printed above, at free memory and at the limits of ulimit"
    )
