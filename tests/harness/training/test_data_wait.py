"""The share of a training's time in which its steps waited for data."""

import pytest
import torch

from bsrbench.harness.profiler.training_pass import training_pass
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training import training_loop
from bsrbench.harness.training.job import begin
from bsrbench.harness.training.resume import Checkpoint
from bsrbench.harness.training.training_loop import train
from bsrbench.harness.workload import data, tasks
from bsrbench.harness.workload.data.splits import ImageData
from bsrbench.methods import load

STEP_SECONDS, READING_SECONDS = 6.0, 100.0
CROPS = {"augmentation": "crop", "learning_rate": 1e-3}  # every image is prepared for every use


class Slow:
    """Images in memory that take time on a clock which is set by hand."""

    decodes = False

    def __init__(self, split, now, seconds):
        self.split, self.now, self.seconds = split, now, seconds

    @property
    def labels(self):
        """Labels, int64 [n]."""
        return self.split.labels

    def image(self, index):
        """Return an image, uint8 [3, height, width]."""
        self.now[0] += self.seconds
        return self.split.image(index)


@pytest.fixture
def now(monkeypatch):
    """Let each step take 6 s and each reading of the curve 100 s on a clock set by hand."""
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
    return now


@pytest.fixture
def slow(now):
    """Return a maker of noise whose training images take some seconds each to be prepared."""

    def make(seconds):
        noise = data.load("noise", 5, 0)
        return ImageData(Slow(noise.train, now, seconds), noise.validation, noise.test)

    return make


def test_waiting_is_the_time_from_asking_for_a_batch_to_having_it(slow, make_spec):
    """Five steps of 6 s; four images of half a second each before every one."""
    settings = Training(steps=5, evaluate_every=2, **CROPS)
    progress = train(begin(make_spec(training=settings), load), (slow(0.5),), settings)

    assert progress.waited_seconds == 5 * 4 * 0.5
    assert progress.seconds == 5 * (4 * 0.5 + STEP_SECONDS)


class Stopped(Exception):  # noqa: N818 - no error
    pass


class StopsAt(Checkpoint):
    """Keeps every step, and ends the run after the third."""

    def save(self, model, optimizers, progress, scaler=None):
        super().save(model, optimizers, progress, scaler)
        if progress.step == 3:
            raise Stopped


def test_a_training_that_is_resumed_adds_to_the_waiting_before(slow, make_spec, tmp_path):
    settings = Training(steps=5, **CROPS)
    spec, images = make_spec(training=settings), (slow(0.5),)
    with pytest.raises(Stopped):
        train(begin(spec, load), images, settings, StopsAt(tmp_path / "run.pt", 0.0))
    progress = train(begin(spec, load), images, settings, Checkpoint(tmp_path / "run.pt", 1e9))

    assert progress.waited_seconds == 5 * 4 * 0.5
    assert progress.seconds == 5 * (4 * 0.5 + STEP_SECONDS)


def test_a_record_has_the_share(slow, make_spec, monkeypatch):
    """Of 6 s + 4 images of half a second per step: 2 / 8."""
    monkeypatch.setattr(tasks, "load", lambda *_: (slow(0.5),))
    read = training_pass(make_spec(training=Training(steps=3, **CROPS)), load)

    assert read.measurements["data_wait_share"] == pytest.approx(0.25)


def test_a_resumed_training_with_crops_ends_with_the_same_bits(make_spec, tmp_path):
    """It is stopped in the middle of the first epoch: 12 of 20 images were read."""
    settings = Training(steps=7, **CROPS)
    spec, images = make_spec(training=settings), (data.load("noise", 5, 0),)
    whole = begin(spec, load)
    expected = train(whole, images, settings)
    with pytest.raises(Stopped):
        train(begin(spec, load), images, settings, StopsAt(tmp_path / "run.pt", 0.0))
    resumed = begin(spec, load)
    progress = train(resumed, images, settings, Checkpoint(tmp_path / "run.pt", 1e9))

    assert progress.losses == expected.losses
    for one, other in zip(whole.held(), resumed.held(), strict=True):
        assert torch.equal(one, other)
