"""The step that every pass measures: a trial's job and a batch of seeded noise."""

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Job, Loader, begin
from bsrbench.harness.training.kept_storages import KeptStorages
from bsrbench.harness.training.training_step import Diverged, set_learning_rate, training_step

Result = TypeVar("Result")
PROFILE_LEARNING_RATE = 1e-6  # the time and memory of a step do not depend on it


def job_and_batch(
    spec: TrialSpec, load: Loader, warmup_steps: int = 0, kept: KeptStorages | None = None
) -> tuple[Job, tuple[Tensor, Tensor]]:
    """Return the trial's job and its batch, after ``warmup_steps`` steps on this batch.

    The batch is noise, because the profile does not depend on the content of images.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        warmup_steps: number of steps to run.
        kept: finds storages that live between steps.

    Returns:
        The job, and images [n, 3, side, side] with labels [n], where n is batch times tasks.
    """
    job = begin(spec, load, kept)
    set_learning_rate(job, PROFILE_LEARNING_RATE)
    generator = torch.Generator().manual_seed(spec.seed)
    count, side = spec.workload.step_images(), job.preprocess.side
    images = torch.randn(count, 3, side, side, generator=generator)
    labels = torch.cat(
        [torch.randint(0, n, (spec.workload.batch,), generator=generator) for n in job.classes]
    )
    target = job.device.torch_device
    batch = images.to(target), labels.to(target)
    with torch.no_grad():
        job.method.settle(job.model, batch[0])
    for _ in range(warmup_steps):
        training_step(job, *batch)
    return job, batch


def until_taken(job: Job, step: Callable[[], Result]) -> Result:
    """Run a step until its optimizer step is not skipped, and return the result of this run.

    Only fp16 skips optimizer steps. A skipped one is too fast to be timed.

    Args:
        job: the trial.
        step: runs ``training_step``, which ends too long a row of skipped steps.
    """
    while True:
        before, result = job.skipped_steps(), step()
        if job.skipped_steps() == before:
            return result


def require_finite(loss: float | None) -> None:
    """Check that the loss of a counted step is finite; ``None`` is not checked.

    Raises:
        Diverged: it is not a finite number.
    """
    if loss is not None and not math.isfinite(loss):
        raise Diverged(f"the loss became {loss}")
