"""The one training loop."""

import math
import time
from collections.abc import Callable, Iterator
from functools import partial, reduce
from operator import add
from statistics import fmean

import torch

from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.training.current_optimizers import Optimizers
from bsrbench.harness.training.evaluation import accuracies
from bsrbench.harness.training.job import Job, to_device
from bsrbench.harness.training.resume import Checkpoint, Progress
from bsrbench.harness.training.training_step import Diverged, set_learning_rate, training_step
from bsrbench.harness.workload import data
from bsrbench.harness.workload.images.batches import Batch, TrainingBatches
from bsrbench.harness.workload.images.kept_images import room_for_images
from bsrbench.harness.workload.images.prefetch import in_order
from bsrbench.harness.workload.images.workers import workers

FINAL_LOSSES = 5


def train(
    job: Job,
    images: tuple[data.ImageData, ...],
    training: Training,
    checkpoint: Checkpoint | None = None,
    tell_step: Callable[[int], object] = int,
) -> Progress:
    """Train for the requested number of steps, resuming from a checkpoint if there is one.

    Args:
        job: the trial.
        images: the images of each task.
        training: the training settings.
        checkpoint: the checkpoint to resume from and to write.
        tell_step: called with the number of steps that are done, first before any step.

    Raises:
        Diverged: as ``training_step`` raises it; the message names the step.
        UnusableError: the checkpoint is damaged or belongs to another trial.
    """
    keeper = checkpoint or Checkpoint()
    progress = keeper.restore(
        job.model, job.optimizers, training.steps, job.scaler, partial(_optimizers_at, job)
    )
    steps = range(progress.step, training.steps)
    stream = _batches(job, images, steps)
    tell_step(progress.step)
    start = time.perf_counter() - progress.seconds
    for step in steps:
        _optimizers_at(job, step)
        set_learning_rate(job, learning_rate_at(step, training))
        batch = _next_batch(job, stream, progress)
        loss = _step(job, batch, training, progress)
        progress.losses.append(loss if math.isfinite(loss) else None)
        progress.step = step + 1
        tell_step(step + 1)
        read_curve = training.evaluate_every and progress.step % training.evaluate_every == 0
        if not (read_curve or keeper.due() or progress.step == training.steps):
            continue
        job.device.synchronise()
        progress.seconds = time.perf_counter() - start
        if read_curve:
            _read_curve(job, images, progress)
        if keeper.due():
            keeper.save(job.model, job.optimizers, progress, job.scaler)
        start = time.perf_counter() - progress.seconds  # leaves out evaluation and saving
    return progress


def _read_curve(job: Job, images: tuple[data.ImageData, ...], progress: Progress) -> None:
    """Evaluate the validation splits, and add the mean accuracy to the progress."""
    progress.curve_steps.append(progress.step)
    progress.curve_seconds.append(progress.seconds)
    progress.curve_accuracies.append(
        fmean(accuracies(job, [of_task.validation for of_task in images]))
    )


def _optimizers_at(job: Job, step: int) -> Optimizers:
    """Enter the state that the method has at a step, if it has states; return the optimizers."""
    if job.current.states:
        job.current.enter(job.method.state_at(step, job.spec.seed, job.model))
    return job.optimizers


def _step(job: Job, batch: Batch, training: Training, progress: Progress) -> float:
    """Run one step and return its loss; if it diverges, the error names the step."""
    try:
        return training_step(job, *batch, clip_norm=training.clip_norm, number=progress.step)
    except Diverged as error:
        where = f"at step {progress.step}{_before(progress.losses)}"
        raise Diverged(f"{error} {where}") from None


def _before(losses: list[float | None]) -> str:
    """Return in words the last loss; empty if there is none, or if it was not finite."""
    known = [loss for loss in losses[-1:] if loss is not None]
    return f"; the loss was {known[0]:.4g} one step before" if known else ""


def _next_batch(job: Job, stream: Iterator[Batch], progress: Progress) -> Batch:
    """Return the next batch on the job's device, and add the time that this takes to the progress.

    A step ends by reading its loss, so the device has nothing to do while the host waits here.
    """
    asked = time.perf_counter()
    batch = to_device(job, *next(stream))
    progress.waited_seconds += time.perf_counter() - asked
    return batch


def _batches(job: Job, images: tuple[data.ImageData, ...], steps: range) -> Iterator[Batch]:
    """Yield the images and labels of each step; the batches of all tasks, one after the other.

    Each task goes through its own images repeatedly, in its own order.
    """
    size, seed, device = job.spec.workload.batch, job.spec.seed, job.device.torch_device
    room = room_for_images()
    streams = []
    for of_task in images:
        repeated = len(steps) * size > len(of_task.train.labels)
        kept = room if repeated else None
        batches = TrainingBatches(of_task.train, job.preprocess, seed, size, kept)
        streams.append(in_order(batches, steps, device, workers(device.type)))
    for parts in zip(*streams, strict=True):
        raw, labels = zip(*parts, strict=True)
        yield (raw[0], labels[0]) if len(parts) == 1 else (torch.cat(raw), torch.cat(labels))


def learning_rate_at(step: int, training: Training) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to the final rate.

    Steps are counted from 0.
    """
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    left = max(1, training.steps - training.warmup_steps)
    done = (step - training.warmup_steps) / left
    end = training.final_learning_rate
    return end + (training.learning_rate - end) * 0.5 * (1 + math.cos(math.pi * done))


def final_loss(losses: list[float | None]) -> float | None:
    """Return the mean loss of the last few batches; ``None`` if none of them has a finite loss."""
    last = [loss for loss in losses[-FINAL_LOSSES:] if loss is not None]
    return reduce(add, last) / len(last) if last else None  # not sum(), which Python 3.12 changed
