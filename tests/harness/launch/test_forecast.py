"""What a run says before it begins: what it will do, how long it takes, what it writes."""

import shutil
from dataclasses import replace

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.launch.forecasting.forecast_inputs import (
    COMPILE_SECONDS,
    FIND_SECONDS,
    PASS_SECONDS,
    WORK_OF,
    Cost,
    ForecastInputs,
)
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.launch.planning.forecast import GenerationTime, forecast
from bsrbench.harness.launch.planning.forecast_lines import outlook
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.profiler import speed_pass as speed_module
from bsrbench.harness.profiler.speed_pass import speed_pass
from bsrbench.harness.records.pass_readings import Calibration
from bsrbench.harness.records.store import Store
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import PassResult

PROFILE = Profile(rounds=3, generations=4, steps=2, warmup_steps=1, budget_seconds=0)
# A step takes 3 s and an evaluation 1 s. A start, a step and two evaluations of warm-up; three
# visits of two steps, an evaluation, and one visit of two steps by phase. Steps that are repeated
# begin with one more.
GENERATION = PASS_SECONDS + 3 + 2 * 1 + 3 * 3 * 3 + 1 + 3 * 3
# A start, a step and two evaluations; one more step of warm-up and three visits of one step, in
# each of four generations of CPU time.
CPU_TIME = 4 * (PASS_SECONDS + 3 + 2 * 1 + (1 + 3) * 3)
COST = Cost(step_flop=300, forward_flop=100, trained_parameters=10, total_parameters=1000)


def planned(spec):
    return PlannedTrial(spec, spec.trial_id())


def watched(step_seconds):
    """Return the time of the passes that watch a profile's step."""
    passes = [WORK_OF[name] for name in ("memory", "process", "flops")]
    starts = sum(1 + work.starts for work in passes)
    return starts * PASS_SECONDS + sum(work.steps for work in passes) * step_seconds


def group(*specs, beside=Companions()):  # noqa: B008 - it never changes
    return Group(tuple(map(planned, specs)), beside)


@pytest.fixture
def known():
    def make(*specs, speed=100.0, **images):
        costs = {spec.row_id(): COST for spec in specs}
        return ForecastInputs(
            speed, costs, {"noise": {"train": 80, "validation": 8, "test": 40} | images}
        )

    return make


def test_a_profile_takes_its_rounds_and_the_passes_that_watch(make_spec, known):
    spec = make_spec(profile=PROFILE)
    found = forecast([group(spec)], [planned(spec)], known(spec))

    assert found.least_seconds == pytest.approx(4 * GENERATION + CPU_TIME + watched(3))
    assert found.most_seconds == found.least_seconds
    assert found.checkpoint_bytes == 0


def test_a_short_visit_takes_its_least_time_and_a_step_before_it(make_spec):
    """A step takes 3 ms and an evaluation 1 ms: 7 and 20 of them take 20 ms, and one more each."""
    profile = Profile(rounds=1, generations=1, warmup_steps=1, budget_seconds=0)
    spec = make_spec(profile=profile)
    known = ForecastInputs(1e5, {spec.row_id(): COST}, {})
    time = GenerationTime.of(group(spec), 0, known)

    assert time.starts_seconds == pytest.approx(PASS_SECONDS + 0.003 + 2 * 0.001)
    assert time.rounds_seconds == pytest.approx(2 * 8 * 0.003 + 21 * 0.001)
    assert time.after_seconds == 0


def test_energy_visits_take_two_seconds_after_the_rounds(make_spec, known):
    """A step takes 3 s, so a visit of two seconds is one step."""
    spec = make_spec(profile=PROFILE.model_copy(update={"steps": 1}))
    slow = replace(known(spec), energy=True)

    assert GenerationTime.of(group(spec), 0, slow).after_seconds == 3
    assert GenerationTime.of(group(spec), 0, replace(slow, speed=1e6)).after_seconds == (
        pytest.approx(2, abs=1e-3)
    )


def test_a_row_is_compiled_once_and_then_found(make_spec, known):
    """A generation compiles two graphs, a memory pass one; the second time they are cached."""
    spec = make_spec(compiled_step=True, profile=PROFILE)
    known = replace(known(spec), start_seconds=0.0)
    first, second = (GenerationTime.of(group(spec), number, known) for number in (0, 1))
    passes = forecast([group(spec)], [planned(spec)], known).pieces
    memory = passes[spec.trial_id(), "memory"]

    assert first.starts_seconds - second.starts_seconds == 2 * (COMPILE_SECONDS - FIND_SECONDS)
    assert memory.seconds == FIND_SECONDS + WORK_OF["memory"].steps * 3


def test_images_are_loaded_decoded_and_prepared(make_spec, known):
    """4 steps of 4 images, and 40 that are read; 0.5 s each, and 7 s to open the data."""
    spec = make_spec(training=Training(steps=4, learning_rate=0.1))
    without = forecast([], [planned(spec)], known(spec))
    loading = replace(known(spec), load_seconds=7.0, image_seconds=0.5)

    added = forecast([], [planned(spec)], loading).least_seconds - without.least_seconds
    assert added == pytest.approx(7 + (16 + 40) * 0.5)


def test_jobs_share_the_passes_without_a_clock(make_spec, known):
    recipe = Training(steps=10, learning_rate=0.1)
    specs = [make_spec(training=recipe, seed=seed) for seed in range(4)]
    trials = [planned(spec) for spec in specs]
    alone, shared = (forecast([], trials, known(*specs), jobs).least_seconds for jobs in (1, 2))

    assert shared == pytest.approx(alone / 2)


def test_a_calibration_gives_speed_and_start(make_spec, known):
    """A step of 300 FLOP took 2 s; the pass took 9 s, of which steps 4 s and 16 images 1.6 s."""
    spec = make_spec(profile=PROFILE)
    tried = Calibration(2.0, 0.5, 4.0, True, 0.4, 0.1)
    found = known(spec).calibrated(tried, COST, 9.0)

    assert (found.speed, found.forward_speed, found.energy) == (150, 200, True)
    assert found.start_seconds == pytest.approx(9 - 4 - 0.4 - 1.6)


def test_rounds_may_go_on_until_the_budget_is_spent(make_spec, known):
    spec = make_spec(profile=PROFILE.model_copy(update={"budget_seconds": 1000.0}))
    other = make_spec("bsr", profile=spec.profile)
    found = forecast([group(spec, other)], [], known(spec, other))

    assert found.least_seconds < found.most_seconds == 2000


def test_rows_that_are_timed_again_take_their_visits_and_nothing_else(make_spec, known, record_of):
    """Both rows take turns; the other four passes are the new row's alone."""
    spec, stored = make_spec("lora", profile=PROFILE), make_spec(profile=PROFILE)
    beside = Companions((record_of(stored),))
    found = forecast([group(spec, beside=beside)], [planned(spec)], known(spec, stored))

    assert found.least_seconds == pytest.approx(2 * (4 * GENERATION + CPU_TIME) + watched(3))


def test_the_budget_of_a_group_holds_for_rows_that_are_timed_again(make_spec, known, record_of):
    """The new row's 1,000 s are for each of two members, whatever the stored one asked for."""
    spec = make_spec("lora", profile=PROFILE.model_copy(update={"budget_seconds": 1000.0}))
    beside = Companions((record_of(make_spec(profile=PROFILE)),))

    assert forecast([group(spec, beside=beside)], [], known(spec)).most_seconds == 2000


def test_a_training_takes_its_steps_its_curve_and_its_last_reading(make_spec, known):
    recipe = Training(steps=10, learning_rate=0.1, evaluate_every=5)
    spec = make_spec(training=recipe, optimizer="adamw")
    found = forecast([], [planned(spec)], known(spec))
    read = (40 + 2 * 8) / spec.workload.batch

    assert found.least_seconds == pytest.approx(PASS_SECONDS + (10 * 300 + read * 100) / 100)
    assert found.checkpoint_bytes == 4 * (1000 + 2 * 10)


def test_a_row_nobody_can_predict_is_named(make_spec, known):
    spec = make_spec("bsr")

    assert forecast([], [planned(spec)], known()).unknown == ("bsr",)


@pytest.mark.parametrize(
    ("least", "most", "said"),
    [
        (0.2, 0.3, "about 1 s "),
        (61, 61, "about 61 s "),
        (100, 700, "about 2 min to 12 min "),
        (7200, 9000, "about 2.0 h to 2.5 h "),
    ],
)
def test_times_are_said_as_a_person_would(least, most, said, make_spec, known, tmp_path):
    spec = make_spec()
    found = replace(
        forecast([], [planned(spec)], known(spec)), least_seconds=least, most_seconds=most
    )

    assert said in outlook(found, 1e11, tmp_path)[0]


def test_a_disk_that_is_too_full_is_said(make_spec, known, tmp_path, monkeypatch):
    spec = make_spec()
    found = forecast([], [planned(spec)], known(spec))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    assert "too full" in outlook(found, 1e9, tmp_path)[-1]


def test_the_speed_counts_the_flops_that_its_step_has(make_spec):
    """The formula against the counter of operators."""
    step = speed_module._mlp_step(34, "fp32", torch.device("cpu"))
    with StepFlops() as flops:
        step()
    counted = sum(flops.by_phase.values())

    assert counted == 2 * speed_module.PRODUCTS * 34 * speed_module.WIDTH * speed_module.HIDDEN
    assert speed_pass(make_spec(), methods.load).speed.flop_per_second > 0


@pytest.fixture
def runner(tmp_path, make_watcher):
    class Counting(InlineLauncher):
        """The real passes, and their names."""

        def perform(self, pass_name, spec, **keeping):
            """Run a pass and note it."""
            asked.append(pass_name)
            return super().perform(pass_name, spec, **keeping)

    asked = []
    made = Runner(
        Counting(methods.load), Store(tmp_path / "r"), methods.fingerprint, make_watcher()
    )
    return made, asked


def test_a_dry_run_predicts_and_measures_nothing(runner, make_spec):
    made, asked = runner
    records = made.run([make_spec(profile=PROFILE)], dry=True)

    assert records == []
    assert asked == ["estimate", "speed", "calibration"]
    assert made.watcher.said[0] == "1 trial to run: full; seed 0"
    assert "takes about" in made.watcher.said[-2]
    assert "are free" in made.watcher.said[-1]


def test_the_run_after_it_predicts_nothing_again(runner, make_spec):
    made, asked = runner
    made.run([make_spec(profile=PROFILE)], dry=True)
    asked.clear()
    (record,) = made.run([make_spec(profile=PROFILE)])

    assert asked.count("estimate") == 0
    assert record.measurements["peak_estimated_bytes"] > 0


def test_a_device_that_cannot_be_tried_ends_no_run(runner, make_spec, monkeypatch):
    made, _ = runner
    perform = made.launcher.perform

    def failing(name, spec, **keeping):
        return PassResult("crashed", "no") if name == "speed" else perform(name, spec, **keeping)

    monkeypatch.setattr(made.launcher, "perform", failing)
    (record,) = made.run([make_spec(profile=Profile(rounds=0))])

    assert "  no forecast of the time: no" in made.watcher.said
    assert record.outcome.status == "completed"
