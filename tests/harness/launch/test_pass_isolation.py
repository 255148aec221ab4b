"""What a pass starts ends with it, and no pass finds what another has left."""

import gc
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from bsrbench.harness.records.trial_record import Status

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("how", "status"), [("forks", Status.COMPLETED), ("forks and dies", Status.CRASHED)]
)
def test_what_a_pass_starts_ends_with_it(how, status, broken, launcher, make_spec, tmp_path):
    """Nor does anybody wait for it, though it holds the pipe."""
    place = tmp_path / "pid"
    result = launcher.perform(
        "memory", make_spec(broken, options={"how": how, "counter": str(place)})
    )
    left = Path(f"/proc/{place.read_text()}")

    assert result.status == status
    assert _becomes(lambda: _is_dead(left))


def _is_dead(process):
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_passes_leave_no_handle_open(launcher, make_spec):
    def handles():
        return len(list(Path("/proc/self/fd").iterdir()))

    launcher.perform("flops", make_spec())
    gc.collect()  # else something of an earlier test may be closed meanwhile
    before = handles()
    for _ in range(5):
        launcher.perform("flops", make_spec())

    assert handles() == before


RUN_OF_ONE = """
import os, signal, subprocess, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from bsrbench import methods
from bsrbench.harness.launch.processes import fork_server
fork_server.sweeper.make_group = lambda _: ""
nothing = lambda _: (subprocess.Popen(["true"]), os.open(os.devnull, os.O_RDONLY))
fork_server.Server._start_sweeper = nothing  # the kernel's own word is asked here
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.spec.trial_spec import TrialSpec
LocalLauncher(methods.load).perform("memory", TrialSpec.model_validate_json(sys.argv[1]))
"""


@pytest.fixture
def start_hanging(broken, make_spec, tmp_path, tmp_path_factory):
    """Return a starter of runs whose trial hangs; what a test leaves of them is killed."""
    started = []

    def start(name):
        place = tmp_path / name
        spec = make_spec(broken, options={"how": "hang", "counter": str(place)})
        command = [sys.executable, "-c", RUN_OF_ONE, spec.model_dump_json()]
        told = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("t"))}
        started.append((subprocess.Popen(command, cwd=ROOT, env=told), place))
        return started[-1]

    yield start
    for run, place in started:
        run.kill()
        run.wait()
        if place.exists() and not _is_dead(Path(f"/proc/{place.read_text()}")):
            with suppress(ProcessLookupError):
                os.kill(int(place.read_text()), signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="no other system ends children with parents")
def test_a_trial_ends_with_its_killed_run(start_hanging):
    """Nobody is left to wait for it, and the next run would be measured beside it."""
    ways = signal.SIGKILL, signal.SIGTERM, signal.SIGHUP
    runs = [start_hanging(way.name) for way in ways]
    for way, (run, place) in zip(ways, runs, strict=True):
        assert _becomes(place.exists, seconds=600)  # three runs load torch beside each other
        trial = Path(f"/proc/{place.read_text()}")
        assert not _is_dead(trial)
        run.send_signal(way)
        run.wait()

        assert _becomes(lambda trial=trial: _is_dead(trial))


def _becomes(holds, seconds=60):
    """Wait until something holds, and return whether it did in so much time.

    The kernel ends processes within milliseconds, and a machine with too much to do within
    seconds: the minute is for that.
    """
    ends = time.monotonic() + seconds
    while not holds() and time.monotonic() < ends:
        time.sleep(0.05)
    return holds()


def test_a_pass_leaves_nothing_behind_for_the_next(launcher, make_spec):
    """Two passes of one spec, run one after the other, read the same bytes."""
    first, second = (launcher.perform("memory", make_spec()).reading for _ in range(2))

    assert first == second


LITTERING = '''
import builtins, os, random
from dataclasses import dataclass
import numpy as np
import torch
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Littering(Method):
    """Changes whatever a process holds if told to, and tells what it finds there."""
    litters: bool = False
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        if self.litters:
            builtins.litter = bytearray(1 << 20)
            os.environ["LITTER"] = os.environ["BSRBENCH_LITTER"] = "1"
            random.seed(7)
            np.random.seed(7)
            torch.rand(7)
            torch.set_num_threads(7)
            torch.set_grad_enabled(True)
            torch.use_deterministic_algorithms(True)
            torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
            torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
        return model

    def environment(self, kind):
        return {
            "memory": hasattr(builtins, "litter"),
            "environment": [name for name in os.environ if "LITTER" in name],
            "seed": torch.initial_seed(),
            "draws": [torch.rand(1).item(), np.random.rand()],
            "threads": torch.get_num_threads(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "hooks": len(torch.nn.modules.module._global_forward_hooks),
            "compiled": dict(torch._dynamo.utils.counters["stats"]),
        }
'''


def test_no_pass_finds_what_another_has_changed(launcher, make_spec, tmp_path):
    """Memory, seeds, environment, hooks, thread counts and compiled code end with a process."""
    path = tmp_path / "littering.py"
    path.write_text(LITTERING)

    def found(litters):
        spec = make_spec(f"{path}:Littering", options={"litters": litters}, threads=1)
        result = launcher.perform("flops", spec)
        assert result.status == Status.COMPLETED, result.reason
        return result.method

    before, littered, after = found(litters=False), found(litters=True), found(litters=False)

    assert before == after
    assert [name for name in before if before[name] == littered[name]] == ["seed"]
