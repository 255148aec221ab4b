"""What the clocks time and what they leave out, with clocks and counters that are set by hand."""

from dataclasses import dataclass, field

import pytest

from bsrbench.harness.devices.cpu import Cpu
from bsrbench.harness.profiler import clock_visits
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.training import training_loop
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.resume import Checkpoint
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data
from bsrbench.methods import load
from bsrbench.methods.full import FullFineTuning
from tests.harness.visit_kinds import visits_of

STEP_SECONDS, READING_SECONDS = 1.0, 100.0


@dataclass(frozen=True)
class Noting(FullFineTuning):
    """Full fine-tuning that notes in which mode the model runs."""

    modes: list = field(default_factory=list)

    def prepare(self, model):
        model.register_forward_pre_hook(lambda model, _: self.modes.append(model.training))
        return model


def test_steps_are_timed_in_training_mode_and_evaluation_in_its_own(make_spec, monkeypatch):
    """A step and two evaluations of warm-up; visits of a step, an evaluation, a step by phase."""
    method = Noting()
    monkeypatch.setattr(clock_visits, "VISIT_KINDS", visits_of(0.0))
    profile = Profile(rounds=1, steps=1, warmup_steps=1)
    clock_pass(make_spec(profile=profile), lambda _: method)

    assert method.modes == [True, False, False, True, False, True]


def test_what_is_repeated_in_a_visit_runs_once_before_it_is_timed(make_spec, monkeypatch):
    """Other processes have run since; three steps are asked for."""
    method = Noting()
    monkeypatch.setattr(clock_visits, "VISIT_KINDS", visits_of(0.0))
    profile = Profile(rounds=1, steps=3, warmup_steps=0)
    clock_pass(make_spec(profile=profile), lambda _: method)

    assert method.modes == [False] * 2 + [True] * (1 + 3) + [False] + [True] * (1 + 3)


def test_short_steps_are_repeated_until_a_visit_is_long_enough(make_spec, monkeypatch):
    """The warm-up took 1 s, then 0.3 s per step: four steps are the least that take a second."""
    monkeypatch.setattr(clock_visits, "VISIT_KINDS", visits_of(1.0))
    monkeypatch.setattr(clock_visits.phase_clock, "warm_up", lambda *_: [1.0, 0.3])
    reading = clock_pass(make_spec(profile=Profile(rounds=1)), load)

    assert reading.detail.clock.steps_per_visit == 4


def test_a_sample_is_the_mean_of_the_steps_of_its_visit(make_spec, monkeypatch):
    """The clock is read at 1 s and 7 s, before and after four steps: 1.5 s per step."""
    monkeypatch.setattr(clock_visits, "VISIT_KINDS", visits_of(0.0))
    spec = make_spec(profile=Profile(rounds=1, steps=4, warmup_steps=0))
    visits = clock_visits.ClockVisits(*job_and_batch(spec, load), spec.profile)
    seconds = iter((1.0, 7.0))
    monkeypatch.setattr(clock_visits.time, "perf_counter", lambda: next(seconds))

    assert visits.visit(clock_visits.STEPS) == 1.5
    assert visits.readings().measurements["step_seconds"] == [1.5]


def test_joules_are_those_of_an_image(make_spec, monkeypatch):
    """A counter that rises by 24 J over three steps of four images: 2 J an image.

    The clock is read once before the steps, and after each step.
    """
    readings, seconds = iter((100.0, 124.0)), iter((0.0, 0.5, 1.0, 2.5))
    monkeypatch.setattr(Cpu, "energy_counter", lambda _: lambda: next(readings))
    spec = make_spec(profile=Profile(rounds=1, warmup_steps=0), batch=4)
    job, batch = job_and_batch(spec, load)
    visits = clock_visits.ClockVisits(job, batch, spec.profile)
    monkeypatch.setattr(clock_visits.time, "perf_counter", lambda: next(seconds))
    visits.visit(clock_visits.ENERGY)

    assert visits.readings().measurements["joules_per_image"] == [2.0]


def test_a_counter_of_energy_that_stands_still_is_a_reason_and_no_number(make_spec, monkeypatch):
    monkeypatch.setattr(Cpu, "energy_counter", lambda _: lambda: 100.0)
    monkeypatch.setattr(clock_visits, "ENERGY_SECONDS", 0.0)
    spec = make_spec(profile=Profile(rounds=1, warmup_steps=0))
    visits = clock_visits.ClockVisits(*job_and_batch(spec, load), spec.profile)
    visits.visit(clock_visits.ENERGY)
    reading = visits.readings()

    assert "joules_per_image" not in reading.measurements
    assert "did not change" in reading.missing["joules_per_image"].text


@pytest.fixture
def by_hand(monkeypatch):
    """Let each step take 1 s and each reading of the curve 100 s on a clock set by hand."""
    now = [0.0]
    step, read = training_loop.training_step, training_loop.accuracies

    def timed_step(*arguments, **more):
        now[0] += STEP_SECONDS
        return step(*arguments, **more)

    def timed_reading(*arguments):
        now[0] += READING_SECONDS
        return read(*arguments)

    monkeypatch.setattr(training_loop, "training_step", timed_step)
    monkeypatch.setattr(training_loop, "accuracies", timed_reading)
    monkeypatch.setattr(training_loop.time, "perf_counter", lambda: now[0])


def test_the_clock_of_training_stands_still_while_the_curve_is_read(by_hand, make_spec):
    settings = Training(steps=5, learning_rate=1e-3, evaluate_every=2)
    job = begin(make_spec(training=settings), load)
    progress = train(job, (data.load("noise", 5, 0),), settings)

    assert progress.curve_seconds == [2.0, 4.0]
    assert progress.seconds == 5.0


class Stopped(Exception):  # noqa: N818 - no error
    pass


class StopsAt(Checkpoint):
    """Keeps every step, and ends the run after the third."""

    def save(self, model, optimizers, progress, scaler=None):
        super().save(model, optimizers, progress, scaler)
        if progress.step == 3:
            raise Stopped


def test_a_training_that_goes_on_adds_to_the_seconds_before(by_hand, make_spec, tmp_path):
    settings = Training(steps=5, learning_rate=1e-3)
    spec, images = make_spec(training=settings), (data.load("noise", 5, 0),)
    with pytest.raises(Stopped):
        train(begin(spec, load), images, settings, StopsAt(tmp_path / "run.pt", 0.0))
    progress = train(begin(spec, load), images, settings, Checkpoint(tmp_path / "run.pt", 1e9))

    assert progress.seconds == 5.0
