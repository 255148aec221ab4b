"""A checkpoint of another optimizer, or of one with other options, is refused in a sentence."""

import pytest
import torch

from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.resume import (
    Checkpoint,
    CheckpointRequest,
    Progress,
    UnusableError,
)
from bsrbench.harness.training.training_step import set_learning_rate, training_step
from bsrbench.methods import load


@pytest.fixture
def start(make_spec):
    """Return a maker of jobs of an optimizer with options; test_vit is 64 wide."""

    def make(optimizer, **options):
        spec = make_spec(optimizer=optimizer, optimizer_options=options or None)
        job = begin(spec, load)
        set_learning_rate(job, 0.01)
        return job

    return make


def save(job, file):
    """Save a job after one step."""
    training_step(job, torch.ones(4, 3, 64, 64), torch.tensor([0, 1, 2, 3]))
    Checkpoint(file, 0.0).save(job.model, job.optimizers, Progress())


def refusal(job, file):
    """Return why a checkpoint is not used."""
    with pytest.raises(UnusableError) as caught:
        Checkpoint(file).restore(job.model, job.optimizers, steps=4)
    return str(caught.value)


@pytest.mark.parametrize("saved", OPTIMIZERS)
def test_a_state_of_another_optimizer_is_refused(saved, start, tmp_path):
    file = tmp_path / "checkpoint"
    save(start(saved), file)
    others = [name for name in OPTIMIZERS if name != saved]
    expected = {
        name: (
            f"checkpoint cannot be used (it has the state of the optimizer {saved}, "
            f"expected {name})"
        )
        for name in others
    }

    assert {name: refusal(start(name), file) for name in others} == expected


@pytest.mark.parametrize(
    ("optimizer", "saved", "options", "name", "shape"),
    [
        # The first parameter of either is that of the patches: 64 x 3 x 16 x 16 numbers.
        ("adamw8", {}, {"block_size": 64}, "exp_avg_codes", (768, 64)),
        ("adamw4", {"block_size": 256}, {"block_size": 64}, "exp_avg_codes", (768, 32)),
        # The first matrix is that of queries, keys and values: 192 x 64.
        ("galore", {"rank": 8}, {"rank": 4}, "basis", (64, 4)),
        ("apollo", {"rank": 8}, {"rank": 4}, "exp_avg", (192, 4)),
    ],
)
def test_a_state_of_other_options_is_refused(
    optimizer, saved, options, name, shape, start, tmp_path
):
    file = tmp_path / "checkpoint"
    save(start(optimizer, **saved), file)

    assert refusal(start(optimizer, **options), file) == (
        f"checkpoint cannot be used ({name} does not have shape {shape}, which the options of "
        f"{optimizer} give it)"
    )


@pytest.mark.parametrize(("saved", "name"), [("adamw", "sgd"), ("sgd", "adamw"), ("sgd", "adamw8")])
def test_a_training_begins_anew_if_the_checkpoint_is_of_another_optimizer(
    saved, name, start, make_spec, tmp_path
):
    """Its numbers are those of a training without a checkpoint."""
    file = tmp_path / "run.pt"
    save(start(saved), file)
    spec = make_spec(optimizer=name, training=Training(steps=2, learning_rate=1e-3))
    readings = training_pass(spec, load, CheckpointRequest(file, 1e9))
    undisturbed = training_pass(spec, load)

    (note,) = readings.notes
    assert note.text == (
        "there was a checkpoint, but training started from the beginning: run.pt cannot be used "
        f"(it has the state of the optimizer {saved}, expected {name})"
    )
    for metric in ("accuracy_top1", "final_loss"):
        assert readings.measurements[metric] == undisturbed.measurements[metric]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("exp_avg"), "its state has step"),
        (lambda state: state.update(exp_avg=torch.zeros(3)), "exp_avg does not have shape"),
        (lambda state: state.update(step=torch.ones(())), "its state has step, exp_avg"),
    ],
    ids=["missing", "shape", "step"],
)
def test_a_state_that_does_not_fit_is_refused(change, message, start, tmp_path):
    file = tmp_path / "checkpoint"
    job, other = start("lion"), start("lion")
    save(job, file)
    change(next(iter(job.optimizers[0].state.values())))
    Checkpoint(file, 0.0).save(job.model, job.optimizers, Progress())
    with pytest.raises(UnusableError, match=message):
        Checkpoint(file).restore(other.model, other.optimizers, steps=4)
