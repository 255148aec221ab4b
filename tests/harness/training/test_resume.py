"""A training run that was killed goes on bit for bit."""

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.resume import Checkpoint, CheckpointRequest, Progress
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data
from bsrbench.methods import load

ROOT = Path(__file__).parents[3]
ALONE = """
import os, signal, sys
from pathlib import Path
from bsrbench import methods
from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training import training_loop
from bsrbench.harness.training.resume import CheckpointRequest
import torch
torch.set_num_threads(1)
step, done = training_loop.training_step, []

def step_or_die(*arguments, **more):  # in the middle of training, however fast the machine is
    if len(done) == 70:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(True)
    return step(*arguments, **more)

training_loop.training_step = step_or_die
request = CheckpointRequest(Path(sys.argv[2]), 0.0)
training_pass(TrialSpec.model_validate_json(sys.argv[1]), methods.load, request)
"""


LARGE_SCALE = 2.0**21  # the first four steps or more are skipped before no gradient overflows


class Killed(Exception):  # noqa: N818
    pass


class KilledAfter(Checkpoint):
    """Saves after every step, and ends the run after one of them."""

    def __init__(self, file, step):
        super().__init__(file, 0.0)
        self._last = step

    def save(self, model, optimizers, progress, scaler=None):
        super().save(model, optimizers, progress, scaler)
        if progress.step == self._last:
            raise Killed


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["full", "bsr+int8", "evit", "lora", "asi", "wasi"])
def test_goes_on_bit_for_bit(method, optimizer, make_deep_spec, tmp_path):
    """Random rounding, running ranges, schedules of a method and moments all go on."""
    settings = Training(steps=6, learning_rate=1e-3, augmentation="crop", evaluate_every=2)
    spec = make_deep_spec(method, training=settings, optimizer=optimizer)
    images = (data.load("noise", 5, 0),)
    whole = begin(spec, load)
    expected = train(whole, images, settings)
    file = tmp_path / "run.pt"
    with pytest.raises(Killed):
        train(begin(spec, load), images, settings, KilledAfter(file, 3))
    again = begin(spec, load)
    torch.randn(7)  # what happened in between does not matter
    found = train(again, images, settings, Checkpoint(file, 1e9))

    assert found.losses == expected.losses
    assert found.curve_accuracies == expected.curve_accuracies
    assert found.curve_steps == [2, 4, 6]
    for one, other in zip(whole.held(), again.held(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_fp16_goes_on_bit_for_bit_with_its_scale_and_its_skipped_steps(
    optimizer, make_deep_spec, tmp_path
):
    """The scale is too large for the first steps; the run is killed after the third."""
    settings = Training(steps=10, learning_rate=1e-3)
    spec = make_deep_spec("bsr+int8", training=settings, optimizer=optimizer, precision="fp16")
    images = (data.load("noise", 5, 0),)
    whole, killed, again = (begin(spec, load) for _ in range(3))
    for job in (whole, killed):
        job.scaler.load_state_dict(job.scaler.state_dict() | {"scale": LARGE_SCALE})
    torch.manual_seed(0)
    expected = train(whole, images, settings)
    file = tmp_path / "run.pt"
    torch.manual_seed(0)
    with pytest.raises(Killed):
        train(killed, images, settings, KilledAfter(file, 3))
    torch.randn(7)  # what happened in between does not matter
    found = train(again, images, settings, Checkpoint(file, 1e9))

    skipped = whole.skipped_steps()
    assert killed.skipped_steps() == 3
    assert 3 < skipped < 10
    assert whole.scaler.scale() == LARGE_SCALE / 2**skipped
    assert again.scaler.state_dict() == whole.scaler.state_dict()
    assert found.losses == expected.losses
    for one, other in zip(whole.held(), again.held(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (None, "it has no loss scale, which fp16 needs"),
        ({"scale": -1.0, "steps_since_change": 0, "skipped": 0, "in_a_row": 0}, "scale"),
        ({"scale": 1.0, "steps_since_change": 0, "skipped": "many", "in_a_row": 0}, "skipped"),
    ],
)
def test_fp16_needs_the_scale_of_a_checkpoint(state, said, make_spec, tmp_path):
    settings = Training(steps=2, learning_rate=1e-3)
    spec = make_spec(training=settings, precision="fp16")
    file = tmp_path / "run.pt"
    job = begin(spec, load)
    Checkpoint(file, 0.0).save(job.model, job.optimizers, Progress())
    torch.save(torch.load(file, weights_only=True) | {"scaler": state}, file)
    found = training_pass(spec, load, CheckpointRequest(file, 1e9))

    (note,) = (n for n in found.notes if "checkpoint" in n.text)
    assert "training started from the beginning: run.pt cannot be used" in note.text
    assert said in note.text


def test_a_checkpoint_from_before_fp16_is_resumed(make_spec, tmp_path):
    settings = Training(steps=4, learning_rate=1e-3)
    spec = make_spec(training=settings)
    file = tmp_path / "run.pt"
    images = (data.load("noise", 5, 0),)
    with pytest.raises(Killed):
        train(begin(spec, load), images, settings, KilledAfter(file, 2))
    older = torch.load(file, weights_only=True)
    del older["scaler"]
    torch.save(older, file)

    assert train(begin(spec, load), images, settings, Checkpoint(file, 1e9)).step == 4


def other_model(file, spec):
    """Write the checkpoint of a model with other weights."""
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Checkpoint(file, 0.0).save(model, (optimizer,), Progress())


def half_changed(file, spec):
    """Write a checkpoint whose weights can be taken, and whose progress cannot."""
    job = begin(spec, load)
    progress = Progress(step=1, losses=[1.0, 2.0])
    with torch.no_grad():
        for parameter in job.model.parameters():
            parameter.add_(1.0)
    Checkpoint(file, 0.0).save(job.model, job.optimizers, progress)


def moments_of_another_shape(file, spec):
    job = begin(spec, load)
    for parameter in job.trained():
        job.optimizers[0].state[parameter]["momentum_buffer"] = torch.zeros(3)
    Checkpoint(file, 0.0).save(job.model, job.optimizers, Progress())


def far_too_large(file, spec):
    """Write an archive of eight gigabytes, none of them on the disk."""
    with file.open("wb") as sparse:
        sparse.seek(2**33)
        with zipfile.ZipFile(sparse, "w") as archive:
            archive.writestr("archive/data.pkl", b"")


def explodes(file, spec):
    """Write an archive of a few kilobytes that holds a gigabyte."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 2**30)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file, _: file.write_bytes(b""), "not a zip file"),
        (lambda file, _: file.write_bytes(b"PK\x03\x04"), "not a zip file"),
        (lambda file, _: file.mkdir(), "not a regular file"),
        (lambda file, _: os.mkfifo(file), "not a regular file"),
        (lambda file, _: file.symlink_to("nowhere"), "No such file"),
        (other_model, "weight"),
        (half_changed, "do not fit each other"),
        (moments_of_another_shape, "momentum_buffer has shape"),
        (far_too_large, "bytes, too many for"),
        (explodes, "bytes, too many for"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_checkpoint_that_cannot_be_used_is_named_and_training_begins_anew(
    damage, said, make_spec, tmp_path
):
    settings = Training(steps=2, learning_rate=1e-3)
    spec = make_spec(training=settings)
    file = tmp_path / "run.pt"
    damage(file, spec)
    found = training_pass(spec, load, CheckpointRequest(file, 1e9))
    undisturbed = training_pass(spec, load)

    (note,) = found.notes
    assert "training started from the beginning: run.pt cannot be used" in note.text
    assert said in note.text
    for name in ("accuracy_top1", "final_loss"):
        assert found.measurements[name] == undisturbed.measurements[name]


def test_a_disk_that_takes_no_checkpoint_does_not_end_the_run(make_spec, tmp_path):
    settings = Training(steps=3, learning_rate=1e-3)
    keeper = Checkpoint(tmp_path / "no such folder" / "run.pt", 0.0)
    spec = make_spec(training=settings)
    progress = train(begin(spec, load), (data.load("noise", 5, 0),), settings, keeper)

    assert progress.step == 3
    assert keeper.failure.startswith("no checkpoint after step 1 (")


def test_a_killed_training_ends_with_the_accuracy_of_one_that_was_not(make_spec, tmp_path):
    """With kill -9 of its process in the middle of training."""
    settings = Training(steps=120, learning_rate=1e-4, augmentation="crop-flip", evaluate_every=50)
    spec = make_spec(training=settings, data="digits", classes=None, optimizer="adamw")
    file = tmp_path / "run.pt"
    alone = subprocess.run(
        [sys.executable, "-c", ALONE, spec.model_dump_json(), str(file)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    step = torch.load(file, weights_only=True)["progress"]["step"]
    found = training_pass(spec, load, CheckpointRequest(file, 0.0)).measurements
    undisturbed = training_pass(spec, load).measurements

    assert alone.returncode == -signal.SIGKILL
    assert step == 70
    for name in ("accuracy_top1", "final_loss", "curve_accuracies"):
        assert found[name] == undisturbed[name]
