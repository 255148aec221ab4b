"""What drills share: a suite of tiny trials, a run of it, and what is left when it has ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from bsrbench.harness.records.store import Store

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 4
SUITE = """
description = "tiny trials"
seeds = [0, 1]
[workload]
model = "test_vit"
image_size = 32
data = "digits"
batch = 4
threads = 1
[training]
steps = {steps}
learning_rate = 1e-2
[[methods]]
method = "full"
[[methods]]
method = "head"
"""
ALLOWED = {0, 1, 2, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP}
MOST_SECONDS = 300


class Course:
    """A folder of its own for one drill: the suite, the results, the temporary files.

    Args:
        folder: where all of it is.
        steps: of each training.
    """

    def __init__(self, folder, steps=60):
        self.folder = folder
        self.results = folder / "results"
        self.suite = folder / "tiny.toml"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.suite.write_text(SUITE.format(steps=steps))

    def environment(self, **more):
        """Return the variables of a command: what it makes for a time goes into the folder."""
        own = {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            "BSRBENCH_CACHE": str(self.folder / "cache"),
            "BSRBENCH_KERNELS": "eager",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "compiled"),  # stays from run to run
        }
        return {**os.environ, **own, **more}

    def start(self, *arguments, **variables):
        """Start a command, in a session of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def start_run(self, *arguments, results=None, **variables):
        """Start a run of the suite that keeps a checkpoint every second."""
        where = ("--results", results or self.results, "--checkpoint-seconds", 1)
        return self.start("run", self.suite, *where, "--progress", "json", *arguments, **variables)

    def command(self, *arguments, **variables):
        """Run a command; return its exit code and what it printed."""
        return ended(self.start(*arguments, **variables))

    def run(self, *arguments, **more):
        """Run the suite; return the exit code and what was printed."""
        return ended(self.start_run(*arguments, **more))

    def finished(self, results=None):
        """Run the suite to its end, and require that its folder is as it should be."""
        results = results or self.results
        code, said = self.run(results=results)
        require(code == 0, f"the run after it ended with {code}: {last(said)}")
        code, said = self.command("results", "check", results)
        require(code == 0, f"results check: {last(said)}")
        records, aside = Store(results).records()
        require(not aside, f"set aside: {aside}")
        require(len(records) == TRIALS, f"{len(records)} records of {TRIALS}")

    def until(self, pattern, run=None, results=None):
        """Wait until there is a file of this pattern in the results folder."""
        ends = time.monotonic() + MOST_SECONDS
        while not list((results or self.results).glob(pattern)):
            require(time.monotonic() < ends, f"no {pattern} came")
            require(run is None or run.poll() is None, "the run ended before")
            time.sleep(0.02)

    def left_over(self):
        """Return what is alive of this drill, and which temporary files stay."""
        ends = time.monotonic() + 60
        while (found := self._left_over()) and time.monotonic() < ends:
            time.sleep(0.1)
        return found

    def _left_over(self):
        return [*alive(f"TMPDIR={self.temporary}"), *map(str, self.temporary.iterdir())]


def alive(*beginnings):
    """Return the living processes with variables in their environment that begin so, each."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                variables = (entry / "environ").read_bytes().split(b"\0")
                line = (
                    (entry / "cmdline")
                    .read_bytes()
                    .replace(b"\0", b" ")
                    .decode(errors="replace")[:60]
                )
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            there = [any(v.startswith(b.encode()) for v in variables) for b in beginnings]
            if all(there) and state != "Z":
                found.append(f"{entry.name} {line}")
    return found


def ended(run):
    """Return how a command ended, and what it printed: no traceback, whatever happened."""
    try:
        said, _ = run.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise AssertionError(f"not ended after {MOST_SECONDS} s") from None
    require("Traceback" not in said, f"a traceback: {said[-3000:]}")
    require(run.returncode in ALLOWED, f"exit code {run.returncode}: {last(said)}")
    return run.returncode, said


def last(said):
    """Return the last line that was printed."""
    return (said.strip().splitlines() or ["nothing"])[-1][:300]


def require(holds, said):
    """Raise where something does not hold."""
    if not holds:
        raise AssertionError(said)


@contextmanager
def course(**more):
    """Give a course in a folder that goes when the drill ends."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        yield Course(Path(folder), **more)
