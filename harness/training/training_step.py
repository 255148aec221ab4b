"""The one training step."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.job import Job


class Diverged(Exception):  # noqa: N818 - a stored outcome, not a programming error
    """The loss is no longer a finite number."""


def set_learning_rate(job: Job, rate: float) -> None:
    """Set the learning rate of every parameter group to ``rate`` times its ``lr_scale``."""
    for optimizer in job.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]


def _ignore(_: str) -> None:
    """Do nothing when a phase begins."""


def training_step(
    job: Job,
    images: Tensor,
    labels: Tensor,
    *,
    clip_norm: float | None = None,
    enter_phase: Callable[[str], None] = _ignore,
) -> float:
    """Do one optimizer step as ``optimizer_step`` does and return the mean loss.

    The arguments are those of ``optimizer_step``: images [batch, 3, side, side], labels [batch].

    Raises:
        Diverged: the loss is not finite.
    """
    loss = optimizer_step(job, images, labels, clip_norm=clip_norm, enter_phase=enter_phase).item()
    if not math.isfinite(loss):
        raise Diverged(f"the loss became {loss}")
    return loss


def optimizer_step(
    job: Job,
    images: Tensor,
    labels: Tensor,
    *,
    clip_norm: float | None = None,
    enter_phase: Callable[[str], None] = _ignore,
) -> Tensor:
    """Do one optimizer step, in micro-batches if the workload says so, and return the mean loss.

    With several tasks, each task in turn has an optimizer step of its own. Heads and gates of the
    other tasks then have no gradient, so the optimizer skips them. The step reads no value back to
    the host, so it can run over fake tensors and does not block a GPU. Gradients are freed at the
    end, so that a step starts and ends with the same live tensors.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on the job's device; with several tasks, the batches of all
            tasks, one after the other.
        labels: [batch].
        clip_norm: bound on the norm of all gradients.
        enter_phase: called with ``forward``, ``backward`` or ``optimizer`` when it begins.
    """
    if job.turn is None:
        return _step_of_task(job, images, labels, clip_norm, enter_phase)
    batch = job.spec.workload.batch
    total = torch.zeros((), device=images.device)
    for _, own, targets in zip(
        turns(job.model), images.split(batch), labels.split(batch), strict=True
    ):
        total += _step_of_task(job, own, targets, clip_norm, enter_phase) / job.turn.tasks
    return total


def _step_of_task(
    job: Job,
    images: Tensor,
    labels: Tensor,
    clip_norm: float | None,
    enter_phase: Callable[[str], None],
) -> Tensor:
    """Do an optimizer step of the current task, and return its mean loss."""
    size = job.spec.workload.micro_batch or len(labels)
    total = torch.zeros((), device=images.device)
    smoothing = job.spec.training.label_smoothing if job.spec.training else 0.0
    for part, targets in zip(images.split(size), labels.split(size), strict=True):
        enter_phase("forward")
        with precision_of(job):
            loss = F.cross_entropy(job.forward(part), targets, label_smoothing=smoothing)
        share = len(targets) / len(labels)
        enter_phase("backward")
        (loss * share).backward()
        total += loss.detach() * share
        del loss
    enter_phase("optimizer")
    if not job.spec.workload.optimizer_in_backward:  # otherwise the backward pass has done it
        _step_after_backward(job, clip_norm)
    job.method.step_done()
    for parameter in job.trained():
        parameter.grad = None
    return total


def _step_after_backward(job: Job, clip_norm: float | None) -> None:
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(job.trained(), clip_norm)
    for optimizer in job.optimizers:
        optimizer.step()


def precision_of(job: Job) -> torch.autocast:
    """Return the context in which a forward pass has the trial's precision."""
    enabled = job.spec.workload.precision == "bf16"
    return torch.autocast(job.device.torch_device.type, torch.bfloat16, enabled=enabled)


def forward_pass(job: Job, images: Tensor) -> None:
    """Run the uncompiled forward pass of a step, once per task.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on the job's device.
    """
    for _ in turns(job.model):
        with precision_of(job):
            job.model(images)


def first_forward(job: Job, images: Tensor) -> Callable[[], None]:
    """Return a function that runs the forward pass of the first micro-batch of images.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on the job's device.
    """
    workload = job.spec.workload
    return lambda: forward_pass(job, images[: workload.micro_batch or workload.batch])


def images_of_passes(workload: Workload) -> list[int]:
    """Return the number of images in each forward pass of one task's batch."""
    size = workload.micro_batch or workload.batch
    return [min(size, workload.batch - first) for first in range(0, workload.batch, size)]
