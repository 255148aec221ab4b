"""Launch many passes from one process, and look at what that leaves: ``launches.py NUMBER``."""

import os
import sys
from pathlib import Path

import click

from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

WARM = 20  # launches after which what is loaded once is loaded
MIB = 2**20


def main(number):
    """Launch, and compare the end with what was there after a few."""
    workload = Workload(model="test_vit", image_size=32, batch=2, threads=1)
    spec = TrialSpec(method="full", workload=workload, profile=Profile(rounds=0))
    launcher = LocalLauncher(methods.load)
    for _ in range(WARM):
        launch(launcher, spec)
    before = state()
    for _ in range(number - WARM):
        launch(launcher, spec)
    after = state()
    click.echo(f"{number} launches; handles, MiB of each process: {before} -> {after}")
    for (handles, memory), (then_handles, then_memory) in zip(before, after, strict=True):
        assert then_handles <= handles + 2, "handles are lost"
        assert then_memory <= memory + 20, "memory is lost"


def launch(launcher, spec):
    """Run the cheapest pass there is."""
    result = launcher.check(spec)
    assert result.status == Status.COMPLETED, result


def state():
    """Return handles and memory of this process and of those it started."""
    return [(handles(pid), memory(pid)) for pid in (os.getpid(), *sorted(children()))]


def children():
    """Return the processes that this one started."""
    task = Path(f"/proc/{os.getpid()}/task")
    return {int(pid) for each in task.iterdir() for pid in (each / "children").read_text().split()}


def handles(pid):
    """Return how many handles a process holds."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory(pid):
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024 // MIB


if __name__ == "__main__":
    main(int(sys.argv[1]))
