"""How a run is done: its order, what cannot fit, and several trials at a time."""

import os
import threading
from dataclasses import replace

import pytest
from msgspec import structs

from bsrbench import methods
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.forecasting.forecast_inputs import Cost, ForecastInputs
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.planning.preflight import Predictions
from bsrbench.harness.launch.planning.run_plan import Plan, PlannedTrial, Planner
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.records.pass_readings import DeviceSpeed, PassReadings
from bsrbench.harness.records.trial_environment import RecordedLimits
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import CheckResult, PassResult

UNTIMED = Profile(rounds=0)


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

    assert [record.circumstances.suite_place for record in records] == [0, 1, 2]
    assert {record.circumstances.order_seed for record in records} == {7}


class Small(InlineLauncher):
    """A device on which hardly anything fits."""

    asked: list

    def perform(self, pass_name, spec, **keeping):
        """Run the pass, but say that there is one mebibyte."""
        self.asked.append(pass_name)
        result = super().perform(pass_name, spec, **keeping)
        read = result.readings()
        if read.speed is None:
            return result
        speed = structs.replace(read.speed, free_bytes=1 << 20)
        return structs.replace(result, reading=structs.replace(read, speed=speed))


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
    assert "is predicted, but 0.00 GiB are available; --force runs it" in record.outcome.reason
    assert record.measurements["peak_estimated_bytes"] > 1 << 20
    assert record.measurements["peak_counted_bytes"] is None
    assert any(line.startswith("  does not fit: full, a peak of") for line in watcher.said)
    assert watcher.total == watcher.done == 0


def test_jobs_share_the_memory(store, make_spec):
    """What fits alone does not fit twice; a profile always runs alone."""
    known = {
        "estimate": PassReadings({"peak_estimated_bytes": 2 << 20}),
        "speed": PassReadings({}, speed=DeviceSpeed(1e9, 3 << 20)),
    }

    def perform(name, spec):
        return PassResult(reading=known[name])

    store.open_for_writing()
    profiled = make_spec(profile=UNTIMED)
    trained = make_spec(training=Training(steps=1, learning_rate=0.1))
    another = trained.model_copy(update={"seed": 1})

    def doomed(jobs, *specs):
        plan = Planner(store, methods.fingerprint, "m").plan(specs, again=False)
        found = Predictions(perform, store, lambda _: None, jobs=jobs).predict(plan, {}).doomed
        return {plan.missing[key].spec.seed: result.reason for key, result in found.items()}

    assert not doomed(1, profiled, trained, another)
    assert not doomed(2, profiled, trained)
    assert set(both := doomed(2, profiled, trained, another)) == {0, 1}
    assert "but 0.00 GiB are available for each of 2 jobs" in both[0]


def test_force_runs_it_all_the_same(make_runner, make_spec, small):
    make_runner(launcher=small).run([make_spec(profile=UNTIMED)])
    (record,) = make_runner(RunSettings(limits=RecordedLimits(forced=True)), small).run(
        [make_spec(profile=UNTIMED)]
    )

    assert record.outcome.status is Status.COMPLETED


def test_what_fits_by_now_is_run(make_runner, make_spec, small):
    make_runner(launcher=small).run([make_spec(profile=UNTIMED)])
    (record,) = make_runner().run([make_spec(profile=UNTIMED)])

    assert record.outcome.status is Status.COMPLETED


class Slow:
    """A launcher under which everything takes too long."""

    measures_cpu_time = False

    def settings(self, device):
        """Have none."""
        return {}

    def check(self, spec, parts):
        """Find nothing wrong."""
        return CheckResult()

    def perform(self, name, spec, **_):
        """Take too long."""
        return PassResult(Status.TIMEOUT, "not finished after 3 s")


def test_what_failed_by_a_limit_is_run_again_under_another(make_runner, make_spec, store):
    specs = [make_spec(profile=UNTIMED)]
    short = RunSettings(announces=False, limits=RecordedLimits(timeout_seconds=3.0))
    make_runner(short, Slow()).run(specs)
    planner = Planner(store, methods.fingerprint, "m")
    key = next(iter(planner.plan(specs, again=True).missing)).rsplit("-", 1)[0]
    (stored,) = store.records()[0]
    machine = stored.environment.machine_id
    same = replace(planner, machine=machine, limits=stored.circumstances.limits)
    other = replace(planner, machine=machine, limits=RecordedLimits(timeout_seconds=60.0))

    assert stored.key.startswith(key)
    assert list(same.plan(specs, again=False).missing) == []
    assert list(other.plan(specs, again=False).missing) == [stored.key]


def test_several_trainings_run_at_a_time_on_cores_of_their_own(make_spec, store, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # nothing is bound: it is a stub
    running, most, seen = set(), [], []
    both = threading.Barrier(2, timeout=60)

    class Watching:
        measures_cpu_time = False

        def settings(self, device):
            return {}

        def check(self, spec, parts):
            return CheckResult()

        def perform(self, name, spec, *, on_cores=(), **_):
            assert not running & set(on_cores)
            running.update(on_cores)
            both.wait()  # for the other one, which nobody starts where trials run one by one
            most.append(len(running))
            seen.append((spec.seed, tuple(on_cores)))
            both.wait()
            running.difference_update(on_cores)
            return PassResult(reading=PassReadings({}))

    recipe = Training(steps=1, learning_rate=0.1)
    specs = [make_spec(training=recipe, seed=seed, threads=1) for seed in range(6)]
    run_settings = RunSettings(jobs=2, announces=False)
    records = Runner(Watching(), store, methods.fingerprint, Quiet(), run_settings).run(specs)

    assert most == [2] * 6
    assert sorted(seed for seed, _ in seen) == list(range(6))
    assert {len(record.circumstances.cores) for record in records} == {1}


def test_jobs_without_cores_of_their_own_are_an_error(make_runner, make_spec, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    recipe = Training(steps=1, learning_rate=0.1)
    with pytest.raises(BadInput, match="2 threads each needs 4 cores, but 3 are usable"):
        make_runner(RunSettings(jobs=2)).run([make_spec(training=recipe, threads=2)])


def test_a_forecast_knows_what_a_pass_costs(make_spec):
    spec = make_spec(profile=UNTIMED)
    known = ForecastInputs(10.0, {spec.row_id(): Cost(300, 100, 1, 2)}, {})

    assert known.pass_seconds("flops", spec) > known.pass_seconds("estimate", spec)
