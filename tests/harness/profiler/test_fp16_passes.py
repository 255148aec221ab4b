"""Passes of a trial in fp16: its times are of steps that are taken, and it counts the others."""

import math

import pytest
import torch

from bsrbench.harness.profiler import clock_visits, speed_pass
from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.pytest_plugin.paired_steps import Steps
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile
from bsrbench.harness.training import training_loop
from bsrbench.harness.trial.absences import why_empty
from bsrbench.methods import load
from tests.harness.visit_kinds import visits_of

TOO_LARGE = 2.0**18  # the gradients of these tests overflow at this scale
SCALER_BYTES = 4 * 4  # scale, steps since its change, and two counts
FAR = 1e6  # larger than fp16's largest number: the forward pass overflows


def set_scale(job, scale):
    job.scaler.load_state_dict(job.scaler.state_dict() | {"scale": scale})


class Noting:
    """Calls the real step, and notes of each call whether its optimizer step was skipped.

    Once so many steps were taken as one of the given numbers says, the scale is set too large.
    """

    def __init__(self, step, spoilt):
        self._step, self._spoilt, self.skipped = step, set(spoilt), []

    def __call__(self, job, *batch, **more):
        taken = self.skipped.count(False)
        if taken in self._spoilt:
            self._spoilt.remove(taken)
            set_scale(job, TOO_LARGE)
        before = job.skipped_steps()
        loss = self._step(job, *batch, **more)
        self.skipped.append(job.skipped_steps() > before)
        return loss


@pytest.fixture
def spoil(monkeypatch):
    """Return what sets the scale too large after some numbers of taken steps of the clock pass."""

    def spoil(*taken):
        noting = Noting(clock_visits.training_step, taken)
        monkeypatch.setattr(clock_visits, "training_step", noting)
        monkeypatch.setattr(clock_visits, "VISIT_KINDS", visits_of(0.0))
        return noting

    return spoil


def test_warm_up_begins_with_a_step_that_is_taken(spoil, make_spec):
    steps = spoil(0)
    profile = Profile(rounds=1, steps=3, warmup_steps=2)
    read = clock_pass(make_spec(precision="fp16", profile=profile), load)
    first = steps.skipped.index(False)
    (warmup,) = read.detail.clock.warmup_steps

    assert first > 0
    assert not any(steps.skipped[first:])
    assert len(steps.skipped) == warmup + 2 * (1 + 3)  # three timed steps, and one before them


def test_only_taken_steps_are_timed(spoil, make_spec):
    """The scale is too large again before the first timed step, and before the one by phase."""
    steps = spoil(1, 2)  # one step settles the scale
    profile = Profile(rounds=2, warmup_steps=0)
    read = clock_pass(make_spec(precision="fp16", profile=profile), load).measurements

    assert steps.skipped.count(False) == 1 + 2 + 1
    assert steps.skipped.count(True) >= 2
    assert len(read["step_seconds"]) == 2
    assert len(read["optimizer_seconds"]) == 1


def test_the_plugin_times_only_taken_steps(make_spec):
    steps = Steps(make_spec(precision="fp16"))
    job = steps._job
    set_scale(job, TOO_LARGE)
    steps.warm_up()
    after_warm_up = job.skipped_steps()
    set_scale(job, TOO_LARGE)
    steps.one()

    assert 0 < after_warm_up < job.skipped_steps()
    assert (job.scaler.in_a_row, len(steps.seconds)) == (0, 1)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_skipped_step_needs_the_memory_of_any_other(optimizer, make_spec):
    """So the passes that count memory may count a skipped step."""
    job, batch = job_and_batch(make_spec(precision="fp16", optimizer=optimizer), load, 3)
    taken = counted_step(job, batch)
    set_scale(job, TOO_LARGE)
    skipped = counted_step(job, batch)
    job.scaler.read()

    assert job.scaler.in_a_row == 1
    assert (taken.peak, taken.categories) == (skipped.peak, skipped.categories)
    assert taken.timeline.live_bytes == skipped.timeline.live_bytes
    assert (taken.left_behind, skipped.left_behind) == (0, 0)


def test_the_scaler_counts_as_optimizer_state(make_spec):
    job, batch = job_and_batch(make_spec(precision="fp16"), load, 1)
    momentum = sum(parameter.nbytes for parameter in job.trained())

    assert counted_step(job, batch).categories["optimizer"] == momentum + SCALER_BYTES


def of_training(make_spec, monkeypatch, far_steps, steps=8):
    """Return the readings of a training; in some of its steps the images overflow fp16."""
    step, done = training_loop.training_step, []

    def step_of_far_images(job, images, labels, **more):
        done.append(True)
        far = len(done) - 1 in far_steps
        return step(job, images * FAR if far else images, labels, **more)

    monkeypatch.setattr(training_loop, "training_step", step_of_far_images)
    settings = Training(steps=steps, learning_rate=1e-3)
    return training_pass(make_spec(training=settings, precision="fp16"), load)


def test_a_training_without_overflow_skips_nothing(make_spec, monkeypatch):
    read = of_training(make_spec, monkeypatch, ())

    assert read.measurements["skipped_steps"] == 0
    assert read.notes == ()
    assert read.detail.loss_scale == 2.0**16


def test_skipped_steps_are_counted_and_noted(make_spec, monkeypatch):
    """Of the last five batches one has no finite loss, and the final loss is that of the others."""
    read = of_training(make_spec, monkeypatch, (1, 4))
    losses = read.detail.losses

    assert read.measurements["skipped_steps"] == 2
    assert read.notes == (
        Note(
            NoteKind.TRAINING,
            "2 of 8 optimizer steps were skipped, because gradients were not finite in fp16; the "
            "loss scale was 16384 at the end",
        ),
    )
    assert read.detail.loss_scale == 2.0**14
    assert [place for place, loss in enumerate(losses) if loss is None] == [1, 4]
    assert read.measurements["final_loss"] == pytest.approx(
        math.fsum((losses[3], losses[5], losses[6], losses[7])) / 4
    )


def test_without_a_finite_loss_at_the_end_there_is_no_final_loss(make_spec, monkeypatch):
    read = of_training(make_spec, monkeypatch, range(3, 8))

    assert "final_loss" not in read.measurements
    assert read.missing["final_loss"].text == (
        "fp16 overflowed in the forward pass of each of the last batches"
    )


def test_a_training_that_skips_every_step_diverges_and_names_the_scale(make_spec, monkeypatch):
    with pytest.raises(training_loop.Diverged) as caught:
        of_training(make_spec, monkeypatch, range(2, 30), steps=30)

    assert str(caught.value) == (
        "17 optimizer steps in a row were skipped, because gradients were not finite in fp16, and "
        "the loss scale fell to 0.5 at step 18"
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_other_precisions_have_no_number_of_skipped_steps(precision, make_spec):
    spec = make_spec(training=Training(steps=2, learning_rate=1e-3), precision=precision)

    assert "skipped_steps" not in training_pass(spec, load).measurements
    assert why_empty(METRICS["skipped_steps"], spec, "") == Absence(
        AbsenceKind.NOT_REQUESTED, "only fp16 skips optimizer steps"
    )


def test_the_speed_of_a_device_is_measured_in_fp16(make_spec, monkeypatch):
    types = []
    step = speed_pass._mlp_step

    def noting(tokens, precision, device):
        with speed_pass.autocast(device, precision):
            types.append((torch.ones(2, 2) @ torch.ones(2, 2)).dtype)
        return step(tokens, precision, device)

    monkeypatch.setattr(speed_pass, "_mlp_step", noting)
    for precision in ("fp32", "bf16", "fp16"):
        speed_pass.speed_pass(make_spec(precision=precision), load)

    assert types == [torch.float32, torch.bfloat16, torch.float16]
