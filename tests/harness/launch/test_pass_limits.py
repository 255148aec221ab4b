"""What a pass may take, and on which cores it runs."""

import os

import pytest

from bsrbench import methods
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.processes import cores, pass_answers
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.processes.pass_process import PassSettings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import Answer, PassResult

GREEDY = '''
from dataclasses import dataclass
import torch
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Greedy(Method):
    """Takes what it is told to take."""
    mebibytes: int = 1
    how: str = "torch"
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        if self.how == "torch":
            model.taken = torch.ones(self.mebibytes << 20, dtype=torch.uint8)
        elif self.how == "python":
            model.taken = bytearray(self.mebibytes << 20)
        elif self.how == "alone":
            raise RuntimeError("std::bad_alloc")
        return model
'''


@pytest.fixture
def greedy(tmp_path):
    path = tmp_path / "greedy.py"
    path.write_text(GREEDY)
    return f"{path}:Greedy"


@pytest.mark.parametrize("how", ["torch", "python"])
def test_a_pass_beyond_its_memory_is_out_of_memory_by_its_own_limit(how, greedy, make_spec):
    spec = make_spec(greedy, options={"mebibytes": 6000, "how": how})
    launcher = LocalLauncher(methods.load, Limits(memory_bytes=4 << 30))
    result = launcher.perform("flops", spec)

    assert result.status == Status.OUT_OF_MEMORY
    assert "the limit of this run is 4.00 GiB" in result.reason


def test_a_pass_may_take_longer_than_the_system_waits_at_once(make_spec, monkeypatch):
    """The system's call takes at most 24 days; a pass of a second outlasts many short ones."""
    assert pass_answers.LONGEST_WAIT * 1000 < 2**31  # milliseconds, in a C integer
    monkeypatch.setattr(pass_answers, "LONGEST_WAIT", 0.01)
    launcher = LocalLauncher(methods.load, Limits(timeout_seconds=1e10))

    assert launcher.perform("flops", make_spec()).status == Status.COMPLETED


def test_a_pass_within_its_memory_runs(greedy, make_spec):
    spec = make_spec(greedy, options={"mebibytes": 10})
    launcher = LocalLauncher(methods.load, Limits(memory_bytes=4 << 30))

    assert launcher.perform("flops", spec).status == Status.COMPLETED


def test_what_a_library_could_not_get_is_told_from_a_crash_only_under_a_limit():
    crash = PassResult(Status.CRASHED, "exit code -6; last output: std::bad_alloc")

    assert Limits().explained(crash) == crash
    assert Limits(memory_bytes=1 << 30).explained(crash).status == Status.OUT_OF_MEMORY


def test_another_crash_under_a_limit_stays_one():
    crash = PassResult(Status.CRASHED, "ZeroDivisionError")

    assert Limits(memory_bytes=1 << 30).explained(crash) == crash


def test_whole_cores_come_before_halves(monkeypatch):
    """Four cores of two hardware threads each: 0 and 4 are one core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(cores, "_siblings", lambda core: str(core % 4))

    assert cores.choose(3) == [0, 1, 2]
    assert cores.choose(5) == [0, 1, 2, 3, 4]
    assert cores.choose(2, taken=[0, 1]) == [2, 3]
    assert cores.choose(99) == list(range(8))


def test_a_pass_is_bound_to_the_cores_it_was_given(launcher):
    allowed = sorted(os.sched_getaffinity(0))
    result = launcher._call(_affinity, Answer, PassSettings(cores=(allowed[-1],)))

    assert result.reason == str([allowed[-1]])


def _affinity():
    return Answer(reason=str(sorted(os.sched_getaffinity(0))))


def test_a_timed_pass_records_its_cores(launcher, make_spec):
    read = launcher.perform("clock", make_spec(threads=1)).readings()

    assert read.detail.clock.cores == (tuple(cores.choose(1)),)
