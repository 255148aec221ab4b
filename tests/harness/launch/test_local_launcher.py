"""Passes in processes of their own, and what a suite's run does with them."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch import local_launcher
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.local_launcher import LocalLauncher
from bsrbench.harness.launch.processes import pass_answers, pass_process
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.store import Store, latest
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial import record_assembly
from bsrbench.harness.trial.trial_passes import PassResult

ROOT = Path(__file__).resolve().parents[3]
BROKEN = '''
import os, signal, sys, time
from dataclasses import dataclass
import torch
from bsrbench.harness.method import Kind, Method, Unsupported

def note_own_number(path):
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.replace(path + ".part", path)

@dataclass(frozen=True)
class Broken(Method):
    """Fails in the way it is told to."""
    how: str = "raise"
    counter: str = ""
    source = "a test"
    exact_forward = True
    kinds = frozenset({Kind.SELECTS_WEIGHTS})

    def prepare(self, model):
        if self.how == "raise":
            raise RuntimeError("broken on purpose")
        if self.how == "unsupported":
            raise Unsupported("not this one")
        if self.how == "memory":
            torch.empty(1 << 60)
        if self.how == "die":
            print("last words", flush=True)
            os._exit(7)
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "oom":
            open(self.counter, "w").write("oom_kill 4")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "hang":
            if self.counter:
                note_own_number(self.counter)
            time.sleep(600)
        if self.how in {"forks", "forks and dies"}:
            if os.fork() == 0:
                note_own_number(self.counter)
                time.sleep(600)
            while not os.path.exists(self.counter):
                time.sleep(0.01)
            if self.how == "forks and dies":
                os._exit(7)
        if self.how == "garbage":
            os.write(1, bytes(range(256)) * 1000)
        if self.how == "backward":
            model.register_full_backward_pre_hook(lambda *_: 1 / 0)
        if self.how == "nan":
            torch.nn.init.constant_(model.head.weight, float("nan"))
        return model
'''


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text(BROKEN)
    return f"{path}:Broken"


@pytest.mark.parametrize(
    ("how", "status", "said"),
    [
        ("raise", Status.CRASHED, "RuntimeError: broken on purpose (at broken.py:"),
        ("unsupported", Status.UNSUPPORTED, "not this one"),
        ("memory", Status.OUT_OF_MEMORY, "allocate"),
        ("die", Status.CRASHED, "exit code 7; it said last: last words"),
        ("killed", Status.CRASHED, "exit code -9"),
        ("backward", Status.CRASHED, "ZeroDivisionError"),
        ("nan", Status.DIVERGED, "the loss became nan"),
    ],
)
def test_every_way_to_fail_becomes_an_outcome(how, status, said, broken, launcher, make_spec):
    result = launcher.perform("memory", make_spec(broken, options={"how": how}))

    assert result.status == status
    assert said in result.reason


def test_a_process_that_the_kernel_killed_for_its_memory_ran_out_of_it(
    broken, launcher, make_spec, monkeypatch, tmp_path
):
    """The kernel counts its kills; one more while the child died by SIGKILL was the child."""
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 7\noom_kill 3\n")
    monkeypatch.setattr(local_launcher, "OUT_OF_MEMORY_KILLS", counter)
    spec = make_spec(broken, options={"how": "oom", "counter": str(counter)})
    result = launcher.perform("memory", spec)

    assert result.status == Status.OUT_OF_MEMORY
    assert "the kernel killed the process" in result.reason


def test_a_pass_that_hangs_is_ended(broken, make_spec):
    launcher = LocalLauncher(methods.load, Limits(timeout_seconds=3))
    result = launcher.perform("memory", make_spec(broken, options={"how": "hang"}))

    assert (result.status, result.reason) == (Status.TIMEOUT, "not done after 3 s")


@pytest.fixture
def answering(launcher):
    """Return a child that lives, the end its answers are read from, and what sends them."""
    lives, stays_open = os.pipe()
    receiver, sender = launcher._context.Pipe(duplex=False)
    with receiver, sender:
        yield (
            SimpleNamespace(sentinel=lives),
            receiver,
            lambda line: pass_process.send(sender, line),
        )
    os.close(lives)
    os.close(stays_open)


def test_the_time_of_a_pass_begins_when_it_does(answering, monkeypatch):
    """An hour in which the server still loads torch takes none of a pass's ten minutes."""
    process, receiver, send = answering
    really, waits = pass_answers.wait, []

    def answer_the_second_time(ready, left):
        waits.append(left)
        if len(waits) == 2 and left > 0:
            send(json.dumps(asdict(PassResult())))
        return really(ready, left)

    monkeypatch.setattr(pass_answers, "wait", answer_the_second_time)
    began = time.monotonic()
    send(str(began))
    result = pass_answers.wait_for(process, receiver, began - 3600, 600.0)

    assert result.status == Status.COMPLETED
    assert result.start_seconds == pytest.approx(3600)


def test_the_time_of_a_pass_ends_when_it_is_spent(answering):
    """It began an hour ago, and has ten minutes."""
    process, receiver, send = answering
    send(str(time.monotonic() - 3600))
    result = pass_answers.wait_for(process, receiver, time.monotonic() - 3600, 600.0)

    assert (result.status, result.reason) == (Status.TIMEOUT, "not done after 600 s")


def test_what_is_checked_beforehand_has_no_limit(make_spec):
    assert LocalLauncher(methods.load, Limits(1e-6)).check(make_spec()).status == Status.COMPLETED


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


def test_what_a_pass_prints_is_kept_and_hurts_nothing(broken, launcher, make_spec, tmp_path):
    log = tmp_path / "log"
    result = launcher.perform("memory", make_spec(broken, options={"how": "garbage"}), log=log)

    assert result.status == Status.COMPLETED
    assert log.read_bytes().startswith(bytes(range(256)))


def test_a_log_that_cannot_be_kept_loses_no_pass(launcher, make_spec, tmp_path):
    (tmp_path / "file").write_text("where the folder should be")
    result = launcher.perform("flops", make_spec(), log=tmp_path / "file" / "log")

    assert result.status == Status.COMPLETED


def test_a_log_that_is_a_link_writes_nothing_outside(broken, launcher, make_spec, tmp_path):
    """A results folder may be somebody else's."""
    outside, log = tmp_path / "outside", tmp_path / "logs" / "log"
    outside.write_text("mine")
    log.parent.mkdir()
    log.symlink_to(outside)
    launcher.perform("memory", make_spec(broken, options={"how": "garbage"}), log=log)

    assert outside.read_text() == "mine"
    assert log.read_bytes().startswith(bytes(range(256)))


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


def test_a_process_starts_with_everything_slow_loaded(launcher, make_spec):
    """Loading torch, timm and peft takes seconds; a fork of a server that has them does not."""
    result = launcher._call(_is_loaded, make_spec().model_dump_json())

    assert (result.status, result.reason) == (Status.COMPLETED, "True")
    assert result.start_seconds > 0


def _is_loaded(*_):
    slow = {"torch", "torch._dynamo", "timm", "peft"}
    return asdict(PassResult(reason=str(slow <= set(sys.modules))))


def test_the_inline_launcher_reads_the_same(launcher, make_spec):
    inline = InlineLauncher(methods.load).perform("flops", make_spec())

    assert (
        inline.reading["measurements"]
        == launcher.perform("flops", make_spec()).reading["measurements"]
    )


class Counting:
    """A launcher that answers at once and remembers what it was asked."""

    def __init__(self, stop_at=None, settings=None):
        self.asked, self.stop_at, self.found = [], stop_at, settings or {}

    def settings(self, device):
        return self.found

    def check(self, spec):
        return PassResult()

    def perform(self, name, spec, **_):
        if name == "speed":
            return PassResult(reading={"detail": {"flop_per_second": 1e9}})
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((name, spec.label(), spec.seed))
        values = {
            "clock": {"step_seconds": [float(len(self.asked))], "evaluation_seconds": [1.0]},
            "memory": {"peak_counted_bytes": 1, "peak_allocated_bytes": 1},
            "process": {"peak_process_bytes": 1},
            "flops": {"forward_flop": 1, "step_flop": 3, "trained_parameters": 1}
            | {"total_parameters": 1, "tokens_after_block": [17]},
            "estimate": {"peak_estimated_bytes": 1},
            "training": {"accuracy_top1": 0.5, "training_seconds": 1.0, "final_loss": 1.0}
            | {"trained_parameters": 1},
        }
        reading = {"measurements": values[name], "missing": {}, "notes": [], "detail": {}}
        return PassResult(reading=reading, start_seconds=0.1)


@pytest.fixture
def make_runner(tmp_path, make_watcher):
    def make(launcher, fingerprint=methods.fingerprint):
        return Runner(launcher, Store(tmp_path / "results"), fingerprint, make_watcher())

    return make


@pytest.fixture
def specs(make_spec):
    profile = Profile(rounds=2, steps=1, warmup_steps=0, budget_seconds=0)
    training = Training(steps=1, learning_rate=0.1)
    return [
        *(make_spec(method, profile=profile) for method in ("full", "bsr")),
        *(make_spec(method, training=training) for method in ("full", "bsr")),
    ]


def test_profiles_are_timed_in_turns_and_the_rest_follows(make_runner, specs):
    launcher = Counting()
    runner = make_runner(launcher)
    records = runner.run(specs)
    asked = [(name, label) for name, label, _ in launcher.asked]

    assert asked[:2] == [("estimate", "full"), ("estimate", "bsr")]
    assert [label for _, label in asked[2:6]] == ["full", "bsr", "bsr", "full"]
    assert asked[6:9] == [(name, "full") for name in ("memory", "process", "flops")]
    assert asked[-2:] == [("training", "full"), ("training", "bsr")]
    assert runner.watcher.total == runner.watcher.done == len(asked)
    assert [r.measurements["step_seconds"] for r in records[:2]] == [[3.0, 6.0], [4.0, 5.0]]
    assert records[0].environment["round_group"] == records[1].environment["round_group"]
    assert [r.environment["round_position"] for r in records[:2]] == [0, 1]
    assert records[0].environment["timing"] == {"rounds": 2, "stopped_by": "budget"}


def test_what_is_stored_is_not_run_again(make_runner, specs):
    make_runner(Counting()).run(specs)
    launcher = Counting()
    runner = make_runner(launcher)
    runner.run(specs)

    assert launcher.asked == []
    assert runner.watcher.said == ["4 of 4 trials are stored already"]


def test_again_runs_everything_again(make_runner, specs):
    make_runner(Counting()).run(specs)
    launcher = Counting()
    make_runner(launcher).run(specs, again=True)

    assert len(launcher.asked) == 4 + 8 + 2


def test_a_changed_source_makes_only_its_own_records_stale(make_runner, specs):
    make_runner(Counting()).run(specs)
    launcher = Counting()
    runner = make_runner(
        launcher, lambda name: "changed" if name == "bsr" else methods.fingerprint(name)
    )
    runner.run(specs)

    assert "stale, run again: bsr (the method's source has changed)" in runner.watcher.said
    assert {label for name, label, _ in launcher.asked if name != "clock"} == {"bsr"}
    assert len(list((runner.store.folder / "records").iterdir())) == 6  # the old ones are history


ON, OFF = {"TIMM_FUSED_ATTN": "1"}, {"TIMM_FUSED_ATTN": "0"}
UNDER_OTHERS = "measured under other settings: TIMM_FUSED_ATTN 0, now 1"


def test_what_was_measured_under_other_settings_is_run_again(make_runner, specs):
    make_runner(Counting(settings=OFF)).run(specs)
    launcher = Counting(settings=ON)
    runner = make_runner(launcher)
    records = runner.run(specs)

    assert f"stale, run again: full, bsr ({UNDER_OTHERS})" in runner.watcher.said
    assert not [line for line in runner.watcher.said if "stored already" in line]
    assert len([name for name, _, _ in launcher.asked if name != "clock"]) == 2 * 4 + 2
    assert [record.environment["settings"] for record in records] == [ON] * 4
    assert len(list((runner.store.folder / "records").iterdir())) == 8  # the old ones are history


def test_back_under_settings_of_before_what_reports_show_is_of_these_settings(
    make_runner, specs, monkeypatch
):
    """Reports show the newest record of a trial, so an older one of these settings is no answer."""
    for day, settings in enumerate((OFF, ON, OFF), start=1):
        monkeypatch.setattr(
            record_assembly, "utc_now", lambda day=day: f"2026-11-0{day}T00:00:00+00:00"
        )
        runner = make_runner(Counting(settings=settings))
        runner.run(specs)
    shown = latest(runner.store.records()[0])

    assert (
        "stale, run again: full, bsr (measured under other settings: TIMM_FUSED_ATTN 1, now 0)"
        in runner.watcher.said
    )
    assert [record.environment["settings"] for record in shown] == [OFF] * 4


def test_what_an_interrupted_run_staged_under_other_settings_is_not_taken(make_runner, specs):
    """Sixth asked: four visits of the clock and the memory pass of ``full`` are staged by then."""
    with pytest.raises(KeyboardInterrupt):
        make_runner(Counting(stop_at=5, settings=OFF)).run(specs)
    launcher = Counting(settings=ON)
    make_runner(launcher).run(specs)

    assert len(launcher.asked) == 4 + 8 + 2


@pytest.mark.parametrize("stop_at", range(14))
def test_an_interrupted_run_goes_on_where_it_was(stop_at, make_runner, specs):
    """Nothing that was measured is measured twice, but for a group that was not yet complete."""
    first, second = Counting(stop_at), Counting()
    with pytest.raises(KeyboardInterrupt):
        make_runner(first).run(specs)
    records = make_runner(second).run(specs)
    lost = stop_at - 2 if 2 <= stop_at < 6 else 0

    assert len(first.asked) + len(second.asked) == 14 + lost
    assert len(records) == 4


def test_a_failed_pass_ends_its_trial_and_keeps_what_was_measured(make_runner, specs):
    class Failing(Counting):
        def perform(self, name, spec, **_):
            result = super().perform(name, spec)
            failed = replace(result, status=Status.OUT_OF_MEMORY, reason="too large", reading={})
            return failed if name == "process" else result

    records = make_runner(Failing()).run(specs[:1])

    assert records[0].outcome.status is Status.OUT_OF_MEMORY
    assert records[0].outcome.reason == "process pass: too large"
    assert records[0].measurements["peak_counted_bytes"] == 1
    assert records[0].missing["step_flop"] == "process pass: too large"


def test_what_can_never_work_is_an_error_before_anything_runs(make_runner, specs):
    class Refusing(Counting):
        def check(self, spec):
            return PassResult(Status.CRASHED, "no such model", bad_input=True)

    launcher = Refusing()
    with pytest.raises(BadInput, match="no such model"):
        make_runner(launcher).run(specs)
    assert launcher.asked == []


def test_a_pass_result_survives_the_stage(make_runner, tmp_path):
    store = Store(tmp_path / "stage")
    store.open_for_writing()
    result = PassResult(Status.TIMEOUT, "late", start_seconds=0.5)
    store.stage("k", "clock", asdict(result))

    assert PassResult(**store.staged("k", "clock")) == result


def test_the_parent_sleeps_while_a_pass_runs(broken, launcher, make_spec):
    """Whatever it did would be done beside the measurement.

    Read on the clock of this process's own work, which stands still while others have the cores.
    """
    launcher.perform("flops", make_spec())  # starts the server
    hanging = LocalLauncher(methods.load, Limits(timeout_seconds=4))
    before = time.process_time()
    hanging.perform("flops", make_spec(broken, options={"how": "hang"}))

    assert time.process_time() - before < 0.4


def test_ctrl_c_is_not_for_the_children(launcher, make_spec):
    """A child that gets SIGINT goes on: the parent decides."""
    spec = make_spec("full")
    result = launcher._call(_interrupt_self, spec.model_dump_json())

    assert result.status == Status.COMPLETED


def _interrupt_self(*_):
    os.kill(os.getpid(), signal.SIGINT)
    return asdict(PassResult())
