"""Drills with processes: one is ended in the middle of a run, or hundreds are launched."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.drills.course import ROOT, alive, course, ended, last, require


def a_signal_to_what_runs(which, wanted):
    """Send a signal to a pass or to a loader worker, and let the run go on."""
    with course(steps=400) as at:
        run = at.start_run(BSRBENCH_WORKERS="2")
        at.until(".staged/*.checkpoint.pt", run)
        found = _descendants(run.pid)
        target = found[wanted]
        os.kill(target, which)
        code, said = ended(run)
        at.finished() if code == 0 else None
        require(not at.left_over(), f"left over: {at.left_over()}")
        crashed = [line for line in said.splitlines() if "crashed" in line]
        return f"exit code {code}: {(crashed or [last(said)])[0][:200]}"


def _descendants(root):
    """Return a run's fork server, the pass that runs, and a loader worker of it."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        (server, *_) = [p for p in _children(root) if b"forkserver" in _line(p)] or [0]
        passes = _children(server) if server else []
        workers = _children(passes[-1]) if passes else []
        if workers:
            return {"server": server, "pass": passes[-1], "worker": workers[-1]}
        time.sleep(0.01)
    raise AssertionError("no loader worker began")


def _children(pid):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found.append(int(entry.name))
    return sorted(found)


def _line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def sigterm_to_a_pass():
    """A pass is told to end."""
    return a_signal_to_what_runs(signal.SIGTERM, "pass")


def sigterm_to_a_loader_worker():
    """A loader worker is told to end."""
    return a_signal_to_what_runs(signal.SIGTERM, "worker")


def sigkill_of_the_fork_server():
    """The server that passes are forked from is killed."""
    return a_signal_to_what_runs(signal.SIGKILL, "server")


def the_driver_of_a_cluster_is_killed():
    """The run that hands work out to Ray's nodes is killed; a worker of it is in a training."""
    with course(steps=2000) as at:
        port = str(_free_port())
        local = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_DISABLE_DASHBOARD": "1"}
        head = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
        head += [f"--port={port}", "--node-ip-address=127.0.0.1"]
        head += ["--num-cpus=1", "--include-dashboard=false", f"--temp-dir={at.folder / 'r'}"]
        started = subprocess.Popen(
            head, env=at.environment(**local), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _listens(int(port))
            cluster = ("--launcher", "ray", "--address", f"127.0.0.1:{port}")
            run = at.start_run(*cluster, **local)
            of_a_unit = ("BSRBENCH_RUN=", f"TMPDIR={at.temporary}")
            ends = time.monotonic() + 240
            while not (before := alive(*of_a_unit)):
                require(run.poll() is None, "the run ended before")
                require(time.monotonic() < ends, "no unit began")
                time.sleep(0.05)
            run.kill()
            ended(run)
            ends = time.monotonic() + 60
            while (left := alive(*of_a_unit)) and time.monotonic() < ends:
                time.sleep(0.1)
            require(not left, f"left over: {left}")
            code, said = at.run(*cluster, **local)
            require(code == 0, f"the run after it ended with {code}: {last(said)}")
        finally:
            started.terminate()
            started.wait()
            for line in alive(f"TMPDIR={at.temporary}"):
                os.kill(int(line.split()[0]), signal.SIGKILL)
        return f"{len(before)} processes of a unit were alive, none after; then all"


def _listens(port):
    ends = time.monotonic() + 120
    while time.monotonic() < ends:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on port {port}")


def _free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def five_hundred_launches():
    """A process launches five hundred passes: memory, handles and leftovers stay as they were."""
    with course() as at:
        done = subprocess.run(
            [sys.executable, "-m", "tests.drills.launches", "500"],
            cwd=ROOT,
            env=at.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        require(done.returncode == 0, f"{last(done.stdout)} {last(done.stderr)}")
        require(not at.left_over(), f"left over: {at.left_over()}")
        return last(done.stdout)
