"""How a run is done: its order, what cannot fit, several at a time, and how it is ended."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.interrupts import CtrlC
from bsrbench.harness.launch.planning.forecast import Cost, ForecastInputs
from bsrbench.harness.launch.planning.preflight import PreflightChecks
from bsrbench.harness.launch.planning.run_plan import Plan, PlannedTrial, Planner
from bsrbench.harness.launch.progress import JsonLines, Quiet, StatusWriter, TerminalProgress
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.run_tally import Tally
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.trial_passes import PassResult

ROOT = Path(__file__).resolve().parents[3]
UNTIMED = Profile(rounds=0)
TINY = """
description = "tiny"
seeds = [0, 1, 2]
[workload]
model = "test_vit"
image_size = 32
data = "digits"
batch = 2
[training]
steps = 2
learning_rate = 1e-3
[[methods]]
method = "full"
[[methods]]
method = "head"
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")


@pytest.fixture
def make_runner(store):
    def make(run_settings=None, launcher=None):
        chosen = launcher or InlineLauncher(methods.load)
        return Runner(chosen, store, methods.fingerprint, Quiet(), run_settings or RunSettings())

    return make


def test_the_order_is_drawn_and_can_be_drawn_again(make_spec):
    trials = [PlannedTrial(make_spec(seed=seed), f"k{seed}", seed) for seed in range(20)]
    missing = {trial.key: trial for trial in trials}
    groups = [Plan(trials, missing, seed).groups[0] for seed in (0, 0, 1)]
    orders = [[trial.key for trial in group.members()] for group in groups]

    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert sorted(orders[0]) == sorted(missing)


def test_records_know_the_order_and_their_place_in_the_suite(make_runner, make_spec):
    recipe = Training(steps=1, learning_rate=0.1)
    specs = [make_spec(training=recipe, seed=seed) for seed in range(3)]
    records = make_runner(RunSettings(order_seed=7)).run(specs)

    assert [record.environment["suite_place"] for record in records] == [0, 1, 2]
    assert {record.environment["order_seed"] for record in records} == {7}


class Small(InlineLauncher):
    """A device on which hardly anything fits."""

    asked: list

    def perform(self, pass_name, spec, **keeping):
        """Run the pass, but say that there is one mebibyte."""
        self.asked.append(pass_name)
        result = super().perform(pass_name, spec, **keeping)
        if "free_bytes" in result.reading.get("detail", {}):
            result.reading["detail"]["free_bytes"] = 1 << 20
        return result


@pytest.fixture
def small():
    launcher = Small(methods.load)
    launcher.asked = []
    return launcher


def test_what_cannot_fit_is_recorded_as_such_and_not_started(store, make_spec, small, make_watcher):
    watcher = make_watcher()
    runner = Runner(small, store, methods.fingerprint, watcher)
    (record,) = runner.run([make_spec(profile=Profile(rounds=1))])

    assert small.asked == ["estimate", "speed"]
    assert record.outcome.status is Status.OUT_OF_MEMORY
    assert "is predicted, and there are 0.00 GiB; --force runs it" in record.outcome.reason
    assert record.measurements["peak_estimated_bytes"] > 1 << 20
    assert record.measurements["peak_counted_bytes"] is None
    assert any(line.startswith("  cannot fit: full, a peak of") for line in watcher.said)
    assert watcher.total == watcher.done == 0


def test_jobs_share_the_memory(store, make_spec):
    """What fits alone does not fit twice; a profile always runs alone."""
    free = {"flop_per_second": 1e9, "free_bytes": 3 << 20}

    def perform(name, spec):
        known = {"measurements": {"peak_estimated_bytes": 2 << 20}}
        return PassResult(reading=known if name == "estimate" else {"detail": free})

    store.open_for_writing()
    profiled = make_spec(profile=UNTIMED)
    trained = make_spec(training=Training(steps=1, learning_rate=0.1))
    another = trained.model_copy(update={"seed": 1})

    def doomed(jobs, *specs):
        plan = Planner(store, methods.fingerprint, "m").plan(specs, again=False)
        found = (
            PreflightChecks(None, perform, store, lambda _: None, jobs=jobs)
            .predict(plan, {})
            .doomed
        )
        return {plan.missing[key].spec.seed: result.reason for key, result in found.items()}

    assert not doomed(1, profiled, trained, another)
    assert not doomed(2, profiled, trained)
    assert set(both := doomed(2, profiled, trained, another)) == {0, 1}
    assert "and there are 0.00 GiB for each of 2 jobs" in both[0]


def test_force_runs_it_all_the_same(make_runner, make_spec, small):
    make_runner(launcher=small).run([make_spec(profile=UNTIMED)])
    (record,) = make_runner(RunSettings(force=True), small).run([make_spec(profile=UNTIMED)])

    assert record.outcome.status is Status.COMPLETED


def test_what_fits_by_now_is_run(make_runner, make_spec, small):
    make_runner(launcher=small).run([make_spec(profile=UNTIMED)])
    (record,) = make_runner().run([make_spec(profile=UNTIMED)])

    assert record.outcome.status is Status.COMPLETED


class Slow:
    """A launcher under which everything takes too long."""

    def settings(self, device):
        """Have none."""
        return {}

    def check(self, spec):
        """Find nothing wrong."""
        return PassResult()

    def perform(self, name, spec, **_):
        """Take too long."""
        return PassResult(Status.TIMEOUT, "not done after 3 s")


def test_what_failed_by_a_limit_is_run_again_under_another(make_runner, make_spec, store):
    specs = [make_spec(profile=UNTIMED)]
    short = RunSettings(announces=False, limits={"timeout_seconds": 3.0})
    make_runner(short, Slow()).run(specs)
    planner = Planner(store, methods.fingerprint, "m")
    key = next(iter(planner.plan(specs, again=True).missing)).rsplit("-", 1)[0]
    (stored,) = store.records()[0]
    machine = stored.environment["machine_id"]
    same = replace(planner, machine=machine, limits=stored.environment["limits"])
    other = replace(planner, machine=machine, limits={"timeout_seconds": 60.0})

    assert stored.key.startswith(key)
    assert list(same.plan(specs, again=False).missing) == []
    assert list(other.plan(specs, again=False).missing) == [stored.key]


def test_several_trainings_run_at_a_time_on_cores_of_their_own(make_spec, store, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # nothing is bound: it is a stub
    running, most, seen = set(), [], []
    both = threading.Barrier(2, timeout=60)

    class Watching:
        def settings(self, device):
            return {}

        def check(self, spec):
            return PassResult()

        def perform(self, name, spec, *, on_cores=(), **_):
            assert not running & set(on_cores)
            running.update(on_cores)
            both.wait()  # for the other one, which nobody starts where trials run one by one
            most.append(len(running))
            seen.append((spec.seed, tuple(on_cores)))
            both.wait()
            running.difference_update(on_cores)
            return PassResult(
                reading={"measurements": {}, "missing": {}, "notes": [], "detail": {}}
            )

    recipe = Training(steps=1, learning_rate=0.1)
    specs = [make_spec(training=recipe, seed=seed, threads=1) for seed in range(6)]
    run_settings = RunSettings(jobs=2, announces=False)
    records = Runner(Watching(), store, methods.fingerprint, Quiet(), run_settings).run(specs)

    assert most == [2] * 6
    assert sorted(seed for seed, _ in seen) == list(range(6))
    assert {len(record.environment["cores"]) for record in records} == {1}


def test_jobs_without_cores_of_their_own_are_an_error(make_runner, make_spec, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    recipe = Training(steps=1, learning_rate=0.1)
    with pytest.raises(BadInput, match="--jobs 2 of 2 threads each need 4 cores, and 3 are usable"):
        make_runner(RunSettings(jobs=2)).run([make_spec(training=recipe, threads=2)])


def test_a_run_can_be_stopped_while_it_prepares(make_spec, store):
    """Ctrl-C in a terminal ends a server that is still loading, and its check with it."""
    asked = []

    class Dying(InlineLauncher):
        def check(self, spec):
            asked.append(spec)
            return PassResult(Status.CRASHED, "the process ended with exit code None")

    run_settings = RunSettings(stopping=lambda: bool(asked))
    runner = Runner(Dying(methods.load), store, methods.fingerprint, Quiet(), run_settings)
    with pytest.raises(KeyboardInterrupt):
        runner.run([make_spec()])


def test_a_run_that_is_asked_to_stop_ends_after_the_pass_that_runs(make_spec, store):
    asked = []

    class Stopping(InlineLauncher):
        def perform(self, pass_name, spec, **keeping):
            asked.append(pass_name)
            return super().perform(pass_name, spec, **keeping)

    run_settings = RunSettings(announces=False, stopping=lambda: len(asked) == 2)
    runner = Runner(Stopping(methods.load), store, methods.fingerprint, Quiet(), run_settings)
    with pytest.raises(KeyboardInterrupt):
        runner.run([make_spec(profile=UNTIMED)])
    first = list(asked)
    Runner(Stopping(methods.load), store, methods.fingerprint, Quiet()).run(
        [make_spec(profile=UNTIMED)]
    )

    assert first == ["memory", "process"]
    assert [name for name in asked[2:] if name not in ("estimate", "speed")] == ["flops"]


def test_the_first_ctrl_c_is_a_wish_and_the_second_an_order():
    heard, told = [], threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def first():
        heard.append("first")
        told.set()

    with CtrlC(first, lambda: heard.append("second")) as asked:
        os.kill(os.getpid(), signal.SIGINT)
        after_first = (told.wait(60), asked.asked, list(heard))
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

    assert after_first == (True, True, ["first"])
    assert heard == ["first", "second"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_may_come_while_a_line_is_being_printed():
    """What tells the person waits for the line, which goes on only when the handler is done."""
    printing, told = threading.Lock(), threading.Event()

    def first():
        if printing.acquire(timeout=30):
            told.set()

    with CtrlC(first, lambda: None):
        with printing:
            os.kill(os.getpid(), signal.SIGINT)
        heard = told.wait(60)

    assert heard


def test_the_end_is_foreseen_from_what_has_been_done():
    clock = iter([0.0, 0.0, 10.0, 10.0])
    tally = Tally(expected_seconds=100.0, now=lambda: next(clock))
    tally.begin(5)
    tally.expected_done = 20.0

    assert tally.left_seconds() == 40.0  # 80 expected, at twice the expected speed


def test_scripts_read_lines_of_json(capsys):
    watcher = JsonLines(Console(stderr=True))
    watcher.say("  a line [bold]")
    watcher.show(Tally(trials=3, completed=1, failed=1, what="x" * 300))
    said, count = (json.loads(line) for line in capsys.readouterr().err.splitlines())

    assert said == {"event": "said", "line": "a line [bold]"}
    assert (count["event"], count["left"], count["what"]) == ("progress", 1, "x" * 300)


def test_a_terminal_shows_what_failed_and_when_it_ends(capsys):
    console = Console(force_terminal=True, width=120)
    with TerminalProgress(console) as progress:
        progress.show(Tally(passes=4, passes_done=1, failed=2, expected_seconds=300.0, what="now"))

    assert "5 min left, 2 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("pid", "state", "said"),
    [
        (None, "running", "running: 1 of 3 trials done, 0 failed, about 5 min left"),
        (2**22 + 1, "running", "killed: 1 of 3 trials done, 0 failed; run the suite again"),
        (None, "finished", "finished: 1 of 3 trials done"),
    ],
)
def test_another_terminal_learns_how_a_run_goes_on(pid, state, said, store, typed, monkeypatch):
    store.open_for_writing()
    status_writer = StatusWriter(Quiet(), store)
    own = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid or own)
    status_writer.show(Tally(trials=3, completed=1, expected_seconds=300.0, what="timing full"))
    monkeypatch.undo()
    if state != "running":
        status_writer.end(state)
    code, printed = typed("status", store.folder)

    assert code == 0
    assert said in printed
    assert json.loads(typed("status", store.folder, "--json")[1])["trials"] == 3


def test_a_folder_nobody_writes_into_says_so(typed):
    assert "no run is known" in typed("status", ROOT / "results" / "quick")[1]
    assert typed("status", ROOT / "docs")[0] == 2


def test_a_failing_trial_shows_the_end_of_its_log(tmp_path, typed):
    """The traceback stands in the log, its last lines on the screen."""
    path = tmp_path / "failing.py"
    source = (ROOT / "methods" / "head.py").read_text().replace("LinearProbe", "Failing")
    path.write_text(source.replace("        return model\n", "        1 / 0\n"))
    suite = tmp_path / "tiny.toml"
    suite.write_text(TINY)
    results = tmp_path / "results"
    code, said = typed(
        *("run", suite, "--methods", f"{path}:Failing", "--seeds", 1, "--results", results)
    )
    (log,) = (results / "logs").glob("*.training.log")

    assert code == 1
    assert "  | ZeroDivisionError: division by zero" in said
    assert f"log: {log}" in said
    assert "Traceback" in log.read_text()


GATED = """
import time
from dataclasses import dataclass
from pathlib import Path
from bsrbench.methods.full import FullFineTuning

@dataclass(frozen=True)
class Gated(FullFineTuning):
    '''Takes as long as the test wants: its passes wait for a file.'''

    def prepare(self, model):
        is_predicted = next(model.parameters()).is_meta
        while not (is_predicted or Path(GATE).exists()):
            time.sleep(0.01)
        return model
"""


@pytest.fixture
def gated_run(tmp_path):
    """Return a run of three trials of the gated method, and the gate that lets them through."""
    suite, gate, method = tmp_path / "tiny.toml", tmp_path / "gate", tmp_path / "gated.py"
    suite.write_text(TINY)
    method.write_text(f"GATE = {str(gate)!r}\n{GATED}")
    command = [sys.executable, "-m", "bsrbench", "run", str(suite), "--progress", "json"]
    command += ["--methods", f"{method}:Gated", "--results", str(tmp_path / "results")]
    quiet, heard = subprocess.DEVNULL, subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=quiet, stderr=heard, text=True) as run:
        too_long = threading.Timer(300, run.kill)
        too_long.start()
        yield run, gate
        too_long.cancel()
        run.kill()


def _wait_for(run, words):
    for line in run.stderr:
        if words in line:
            return
    raise AssertionError(f"the run ended without {words!r}")


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_once_ends_cleanly_and_twice_at_once(times, gated_run, tmp_path):
    run, gate = gated_run
    _wait_for(run, ": training")
    run.send_signal(signal.SIGINT)
    _wait_for(run, "ending after the pass that runs; Ctrl-C again ends it at once")
    if times == 1:
        gate.touch()
    else:
        run.send_signal(signal.SIGINT)
    said = run.stderr.read()
    stored = list((tmp_path / "results" / "records").glob("*.json"))

    assert run.wait() == 130
    assert "what was measured so far is stored" in said
    assert len(stored) == (1 if times == 1 else 0)
    assert Store(tmp_path / "results").progress()["state"] == "stopped"


def test_a_forecast_knows_what_a_pass_costs(make_spec):
    spec = make_spec(profile=UNTIMED)
    known = ForecastInputs(10.0, {spec.row_id(): Cost(300, 100, 1, 2)}, {})

    assert known.seconds("flops", spec) > known.seconds("estimate", spec)
