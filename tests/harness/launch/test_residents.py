"""Residents in real processes: one is timed at a time, and one that fails fails alone."""

import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from bsrbench.harness.launch.processes.multiprocessing_internals import forkserver_pid
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.round_group import time_in_turns
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile

STAMPING = '''
import json, os, signal, time
from dataclasses import dataclass
import torch
from bsrbench.harness.method import Kind, Method

@dataclass(frozen=True)
class Stamping(Method):
    """Notes when its steps begin and end, and fails in its second round as it is told to."""
    file: str = ""
    how: str = ""
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        self.note("built")
        model.register_forward_pre_hook(lambda model, _: self.begin(model))
        return model

    def begin(self, model):
        self.note("begin" if model.training else "evaluate")
        with open(self.file) as file:
            lines = [json.loads(line) for line in file]
        evaluated = [line["pid"] for line in lines if line["what"] == "evaluate"]
        # Two evaluations warm it up; a third one is a visit.
        if model.training and self.how and evaluated.count(os.getpid()) > 2:
            if self.how == "raise":
                raise RuntimeError("broken on purpose")
            if self.how == "memory":
                torch.empty(1 << 60)
            if self.how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.how == "hang":
                time.sleep(600)

    def step_done(self):
        self.note("end")

    def note(self, what):
        line = {"what": what, "pid": os.getpid(), "at": time.monotonic()}
        with open(self.file, "a") as file:
            file.write(json.dumps(line) + "\\n")
'''


class Planned:
    def __init__(self, spec, key):
        self.spec, self.key = spec, key


@pytest.fixture
def make_member(tmp_path, make_spec):
    (tmp_path / "stamping.py").write_text(STAMPING)

    def make(key, how="", device="cpu", **profile):
        settings = {"rounds": 4, "generations": 2, "warmup_steps": 1, "budget_seconds": 0}
        options = {"file": str(tmp_path / f"{key}.txt"), "how": how}
        spec = make_spec(
            f"{tmp_path / 'stamping.py'}:Stamping",
            options=options,
            profile=Profile(**settings | profile),
            image_size=32,
            batch=1,
            device=device,
        )
        return Planned(spec, key)

    return make


@pytest.fixture
def stamps(tmp_path):
    def read(key):
        return [json.loads(line) for line in (tmp_path / f"{key}.txt").read_text().splitlines()]

    return read


def in_turns(launcher, members, **more):
    return time_in_turns(members, lambda member: launcher.resident(member.spec), **more)


def steps(stamps):
    """Return begin and end of each step; the method's own order is begin, end, begin, end."""
    told = [line for line in stamps if line["what"] in {"begin", "end"}]
    return [(a["at"], b["at"]) for a, b in zip(told[::2], told[1::2], strict=True)]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_one_is_timed_at_a_time_while_all_are_alive(device, launcher, make_member, stamps):
    members = [make_member(key, device=device) for key in "ab"]
    found = in_turns(launcher, members)
    made = sorted((*each, key) for key in "ab" for each in steps(stamps(key)))
    pids = {key: {line["pid"] for line in stamps(key)} for key in "ab"}
    lives = [
        (min(at), max(at))
        for key in "ab"
        for pid in pids[key]
        if (at := [line["at"] for line in stamps(key) if line["pid"] == pid])
    ]

    assert {result.status for result in found.values()} == {Status.COMPLETED}
    assert all(end <= begin for (_, end, _), (begin, _, _) in pairwise(made))
    assert [len(numbers) for numbers in pids.values()] == [2, 2]  # one process per generation
    assert sum(begin < other < end for begin, end in lives for other, _ in lives) == 2
    turns = [key for _, _, key in made]
    assert sum(a != b for a, b in pairwise(turns)) > 8


def test_generations_are_told_apart_in_the_record(launcher, make_member):
    (found,) = in_turns(launcher, [make_member("a")]).values()
    reading = found.readings()
    clock = reading.detail.clock

    assert clock.generations["step_seconds"] == (0,) * 4 + (1,) * 4
    assert clock.generations["evaluation_seconds"] == (0, 0, 1, 1)
    assert clock.generations["backward_seconds"] == (0, 1)
    for metric, numbers in clock.generations.items():
        assert len(numbers) == len(reading.measurements[metric])
    assert clock.steps_per_visit >= 1
    assert clock.rounds == 8
    assert len(clock.cores) == len(clock.warmup_steps) == 2


@pytest.mark.parametrize(
    ("how", "status", "reason"),
    [
        ("raise", Status.CRASHED, "broken on purpose"),
        ("memory", Status.OUT_OF_MEMORY, "memory"),
        ("killed", Status.CRASHED, "exit code -9"),
    ],
)
def test_one_that_fails_in_the_middle_fails_alone(how, status, reason, launcher, make_member):
    members = [make_member("a"), make_member("b", how)]
    found = in_turns(launcher, members)

    assert found["b"].status is status
    assert reason in found["b"].reason
    assert found["a"].status is Status.COMPLETED
    assert len(found["a"].readings().measurements["step_seconds"]) == 8


def test_one_that_hangs_is_killed_after_the_time_limit_of_a_visit(launcher, make_member, stamps):
    """The others sleep for as long, and their own limit does not count that.

    Only visits are limited, and not the building of the trials: visits take 20 ms.
    """

    def limited(member):
        resident = launcher.resident(member.spec)
        resident._limits = Limits(timeout_seconds=5.0)
        return resident

    members = [make_member("a", rounds=2), make_member("b", "hang", rounds=2)]
    found = time_in_turns(members, limited)
    hanging = {line["pid"] for line in stamps("b")}

    assert found["b"].status is Status.TIMEOUT
    assert found["b"].reason == "not finished after 5 s"
    assert found["a"].status is Status.COMPLETED
    assert all(is_gone(pid) for pid in hanging)


def is_gone(pid):
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_one_that_sleeps_uses_no_processor_time(launcher, make_member, stamps):
    resident = launcher.resident(make_member("a").spec)
    (pid,) = {line["pid"] for line in stamps("a")}
    try:
        resident.visit("steps")
        time.sleep(1.0)  # the threads of a step stop spinning
        before = ticks(pid)
        time.sleep(1.0)
        after = ticks(pid)
    finally:
        resident.close()

    assert after == before
    assert is_gone(pid)


def ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:13]))


def test_residents_end_with_the_run(launcher, make_member, stamps):
    members = [make_member(key) for key in "ab"]

    def tell(place):
        if place.round == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_turns(launcher, members, tell=tell)

    assert all(is_gone(line["pid"]) for key in "ab" for line in stamps(key))


def test_a_killed_fork_server_costs_a_generation_and_no_row(launcher, make_member, stamps):
    members, killed = [make_member(key) for key in "ab"], []

    def tell(place):
        if (place.generation, place.round) == (1, 1) and not killed:
            killed.append(forkserver_pid())
            os.kill(killed[0], signal.SIGKILL)

    found = in_turns(launcher, members, tell=tell)

    assert {result.status for result in found.values()} == {Status.COMPLETED}
    assert [len({line["pid"] for line in stamps(key)}) for key in "ab"] == [3, 3]
    assert found["a"].readings().detail.clock.rounds == 8
