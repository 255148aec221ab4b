"""What a run says before it begins: what it will do, how long it takes, what it writes."""

import shutil
from dataclasses import replace

import pytest
import torch

from bsrbench import methods
from bsrbench.harness.launch.inline_launcher import InlineLauncher
from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.launch.planning.forecast import PASS_SECONDS, Cost, ForecastInputs, forecast
from bsrbench.harness.launch.planning.forecast_lines import outlook
from bsrbench.harness.launch.planning.run_outline import compiled_first, outline, timed_again
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.profiler import speed_pass as speed_module
from bsrbench.harness.profiler.speed_pass import speed_pass
from bsrbench.harness.records.store import Store
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from bsrbench.harness.trial.trial_passes import check
from bsrbench.methods.parts import kernel_builds
from tests.trial_records import ran_in

PROFILE = Profile(rounds=3, generations=4, steps=2, warmup_steps=1, budget_seconds=0)
# A step takes 3 s and an evaluation 1 s. A start, a step and two evaluations of warm-up; three
# visits of two steps, two evaluations, and one visit of two steps by phase.
GENERATION = PASS_SECONDS + 3 + 2 * 1 + 3 * 2 * 3 + 2 * 1 + 2 * 3
COST = Cost(step_flop=300, forward_flop=100, trained_parameters=10, total_parameters=1000)


def group(*specs, beside=Companions()):  # noqa: B008 - it never changes
    return Group(tuple(PlannedTrial(spec, spec.trial_id()) for spec in specs), beside)


@pytest.fixture
def record_of():
    def make(spec):
        passes = {"memory": PassResult("crashed", "never run")}
        return make_record(spec.trial_id(), spec, passes, ran_in())[0]

    return make


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
    found = forecast([group(spec)], [spec], known(spec))
    watched = 4 * PASS_SECONDS + (9 + 3.5 + 5) * 300 / 100

    assert found.least_seconds == pytest.approx(4 * GENERATION + watched)
    assert found.most_seconds == found.least_seconds
    assert found.checkpoint_bytes == 0


def test_a_short_visit_takes_its_least_time_and_a_step_before_it(make_spec):
    """A step takes 3 ms and an evaluation 1 ms; every visit takes 20 ms and one more of them."""
    profile = Profile(rounds=1, generations=1, warmup_steps=0, budget_seconds=0)
    spec = make_spec(profile=profile)
    known = ForecastInputs(1e5, {spec.row_id(): COST}, {})
    visits = 3 * 0.020 + 0.003 + 0.001 + 0.003

    assert known.seconds("clock", spec) == pytest.approx(PASS_SECONDS + 2 * 0.001 + visits)


def test_rounds_may_go_on_until_the_budget_is_spent(make_spec, known):
    spec = make_spec(profile=PROFILE.model_copy(update={"budget_seconds": 1000.0}))
    other = make_spec("bsr", profile=spec.profile)
    found = forecast([group(spec, other)], [], known(spec, other))

    assert found.least_seconds < found.most_seconds == 2000


def test_rows_that_are_timed_again_take_their_visits_and_nothing_else(make_spec, known, record_of):
    """Four generations of two rows; the other four passes are the new row's alone."""
    spec, stored = make_spec("lora", profile=PROFILE), make_spec(profile=PROFILE)
    beside = Companions((record_of(stored),))
    found = forecast([group(spec, beside=beside)], [spec], known(spec, stored))
    watched = 4 * PASS_SECONDS + (9 + 3.5 + 5) * 300 / 100

    assert found.least_seconds == pytest.approx(4 * 2 * GENERATION + watched)


def test_the_budget_of_a_group_holds_for_rows_that_are_timed_again(make_spec, known, record_of):
    """The new row's 1,000 s are for each of two members, whatever the stored one asked for."""
    spec = make_spec("lora", profile=PROFILE.model_copy(update={"budget_seconds": 1000.0}))
    beside = Companions((record_of(make_spec(profile=PROFILE)),))

    assert forecast([group(spec, beside=beside)], [], known(spec)).most_seconds == 2000


def test_a_training_takes_its_steps_its_curve_and_its_last_reading(make_spec, known):
    recipe = Training(steps=10, learning_rate=0.1, evaluate_every=5)
    spec = make_spec(training=recipe, optimizer="adamw")
    found = forecast([], [spec], known(spec))
    read = (40 + 2 * 8) / spec.workload.batch

    assert found.least_seconds == pytest.approx(PASS_SECONDS + (10 * 300 + read * 100) / 100)
    assert found.checkpoint_bytes == 4 * (1000 + 2 * 10)


def test_a_row_nobody_can_predict_is_named(make_spec, known):
    spec = make_spec("bsr")

    assert forecast([], [spec], known()).unknown == ("bsr",)


def test_the_outline_names_rows_seeds_and_what_is_not_the_default(make_spec):
    recipe = Training(steps=10, learning_rate=0.1)
    specs = [make_spec("full", training=recipe, seed=seed) for seed in (0, 1)]
    specs.append(make_spec("bsr", training=recipe, micro_batch=2, image_size=96))
    lines = outline(specs)

    assert lines[0] == "3 trials to run: full, bsr (micro-batch 2); seed 0, 1"
    assert lines[1] == ("  workload: model test_vit, classes 5, image_size 64 | 96, batch 4")
    assert lines[2] == "  training: steps 10, learning_rate 0.1"


def test_many_values_of_a_setting_are_counted(make_spec):
    specs = [make_spec(batch=size) for size in range(1, 10)]

    assert "batch 1 | 2 | 3 | 4 | 5 | 6 and 3 more" in outline(specs)[1]


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
    found = replace(forecast([], [spec], known(spec)), least_seconds=least, most_seconds=most)

    assert said in outlook(found, 1e11, tmp_path)[0]


def test_a_disk_that_is_too_full_is_said(make_spec, known, tmp_path, monkeypatch):
    spec = make_spec()
    found = forecast([], [spec], known(spec))
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    assert "too full" in outlook(found, 1e9, tmp_path)[-1]


def test_the_plan_says_each_kernel_to_compile_once():
    rows = {"int8": ("PACK8", "UNPACK8"), "bsr+int8": ("PACK8",)}

    (line,) = compiled_first(rows)

    assert compiled_first({}) == []
    assert "2 kernels (PACK8, UNPACK8) of bsr+int8, int8;" in line


def test_a_check_says_which_kernels_a_row_compiles_first(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_builds, "kernel_folder", lambda: tmp_path)
    monkeypatch.setenv("BSRBENCH_KERNELS", "auto")
    kernels = {
        method: check(make_spec(method, profile=PROFILE), methods.load).kernels_to_compile
        for method in ("full", "int4", "bsr+int8")
    }

    assert kernels == {
        "full": (),
        "int4": ("PACK4", "UNPACK4"),
        "bsr+int8": ("EXTREMES8", "MOVE8", "PACK8", "UNPACK8"),
    }


def test_a_plan_says_each_thing_about_rows_timed_again_once(make_spec, record_of):
    """Two questions with the same rows are one line; of many rows six are named."""
    beside = Companions((record_of(make_spec("bsr")),), {"it is stale": ("a", "b")})
    many = Companions(tuple(record_of(make_spec(name)) for name in "abcdefgh"))
    lines = timed_again([([make_spec("head")], beside)] * 2 + [([make_spec("lora")], many)])
    again = "stored and will be timed again, in turns with"
    because = "only times measured in turns can be compared; the stored records do not change"

    assert lines == [
        f"  bsr is {again} head: {because}",
        "  no ratio of times between head and a, b: it is stale",
        f"  a, b, c, d, e, f and 2 more are {again} lora: {because}",
    ]


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
    assert asked == ["estimate", "speed"]
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
