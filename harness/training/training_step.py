"""The one training step."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Kind
from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.estimated_gradients import update_one_by_one
from bsrbench.harness.training.job import Job
from bsrbench.harness.training.loss_scaling import MOST_IN_A_ROW

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(Exception):  # noqa: N818 - a stored outcome, not a programming error
    """The loss is no longer a finite number, or too many steps were skipped in a row."""


def set_learning_rate(job: Job, rate: float) -> None:
    """Set the learning rate of every parameter group to ``rate`` times its ``lr_scale``."""
    job.current.set_learning_rate(rate)


def _ignore(_: str) -> None:
    """Do nothing when a phase begins."""


def training_step(
    job: Job,
    images: Tensor,
    labels: Tensor,
    *,
    clip_norm: float | None = None,
    enter_phase: Callable[[str], None] = _ignore,
    number: int = 0,
) -> float:
    """Do one optimizer step as ``optimizer_step`` does and return the mean loss.

    In fp16 the loss may be infinite or NaN. torch's recipe then skips the optimizer step as well.

    The arguments are those of ``optimizer_step``: images [batch, 3, side, side], labels [batch].

    Raises:
        Diverged: the loss is not finite and no step was skipped, or too many steps were skipped in
            a row.
    """
    loss = optimizer_step(
        job, images, labels, clip_norm=clip_norm, enter_phase=enter_phase, number=number
    ).item()
    skipped = 0 if job.scaler is None else job.scaler.read()
    if not math.isfinite(loss) and not skipped:
        raise Diverged(f"the loss became {loss}")
    if job.scaler is not None and job.scaler.in_a_row > MOST_IN_A_ROW:
        raise Diverged(
            f"{job.scaler.in_a_row} optimizer steps in a row were skipped, because gradients were "
            f"not finite in fp16, and the loss scale fell to {job.scaler.scale():g}"
        )
    return loss


def optimizer_step(
    job: Job,
    images: Tensor,
    labels: Tensor,
    *,
    clip_norm: float | None = None,
    enter_phase: Callable[[str], None] = _ignore,
    number: int = 0,
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
        number: number of the step in the training, from 0; it seeds estimates of gradients.
    """
    if Kind.ESTIMATES_GRADIENT in job.method.kinds:
        step = partial(_estimated_step, job, number)
    else:
        step = partial(_step_of_task, job, clip_norm)
    if job.turn is None:
        return step(images, labels, enter_phase)
    batch = job.spec.workload.batch
    total = torch.zeros((), device=images.device)
    for _, own, targets in zip(
        turns(job.model), images.split(batch), labels.split(batch), strict=True
    ):
        total += step(own, targets, enter_phase) / job.turn.tasks
    return total


def _step_of_task(
    job: Job,
    clip_norm: float | None,
    images: Tensor,
    labels: Tensor,
    enter_phase: Callable[[str], None],
) -> Tensor:
    """Do an optimizer step of the current task, and return its mean loss.

    The method can have several terms in its loss, with a backward pass each. The loss that is
    returned is the mean cross-entropy of the forward passes, so that methods can be compared.
    """
    total = torch.zeros((), device=images.device)
    for part, targets in _micro_batches(job, images, labels):
        share = len(targets) / len(labels)
        loss = _micro_step(job, part, targets, share, enter_phase)
        total += loss * share
        del loss
    enter_phase("optimizer")
    if not job.spec.workload.optimizer_in_backward:  # otherwise the backward pass has done it
        _step_after_backward(job, clip_norm)
    job.method.step_done()
    for parameter in job.trained():
        parameter.grad = None
    return total


def _micro_step(
    job: Job, images: Tensor, labels: Tensor, share: float, enter_phase: Callable[[str], None]
) -> Tensor:
    """Run the forward and backward passes of a micro-batch; return its mean cross-entropy.

    Args:
        job: the trial.
        images: [n, 3, side, side].
        labels: [n].
        share: share of the batch.
        enter_phase: called with ``forward`` or ``backward`` when it begins.
    """
    read: list[Tensor] = []  # the cross-entropies
    terms = _terms(job, images, labels, enter_phase, read)
    while (term := _next_term(job, terms)) is not None:
        enter_phase("backward")
        _scaled(job, term * share).backward()
        del term
    return read[0] if len(read) == 1 else torch.stack(read).mean()


def _estimated_step(
    job: Job,
    number: int,
    images: Tensor,
    labels: Tensor,
    enter_phase: Callable[[str], None],
) -> Tensor:
    """Do an optimizer step of the current task with estimated gradients.

    The loss that is returned is the mean of those that the method has asked for.
    """
    losses: list[Tensor] = []

    def loss_of_batch() -> Tensor:
        enter_phase("forward")
        total = torch.zeros((), device=images.device)
        for part, targets in _micro_batches(job, images, labels):
            total += _loss(job, part, targets) * (len(targets) / len(labels))
        losses.append(total)
        return total

    enter_phase("forward")
    with torch.no_grad():
        update_one_by_one(job, loss_of_batch, number, enter_phase)
    job.method.step_done()
    return torch.stack(losses).mean()


def _micro_batches(job: Job, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images [n, 3, side, side] and labels [n] of each forward pass of a task's batch."""
    size = job.spec.workload.micro_batch or len(labels)
    return zip(images.split(size), labels.split(size), strict=True)


def _loss(job: Job, images: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss, of shape [], of images [n, 3, side, side] with labels [n]."""
    with precision_of(job):
        return _cross_entropy(job, job.forward(images), labels)


def _cross_entropy(job: Job, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy, of shape [], of logits [n, classes] with labels [n]."""
    smoothing = job.spec.training.label_smoothing if job.spec.training else 0.0
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def _terms(
    job: Job,
    images: Tensor,
    labels: Tensor,
    enter_phase: Callable[[str], None],
    read: list[Tensor],
) -> Iterator[Tensor]:
    """Return the terms of the method's loss for a micro-batch; add cross-entropies to ``read``.

    Images are [n, 3, side, side], labels [n], and all terms and cross-entropies have shape [].
    """

    def forward() -> Tensor:
        enter_phase("forward")
        return job.forward(images)

    def loss_of(logits: Tensor) -> Tensor:
        loss = _cross_entropy(job, logits, labels)
        read.append(loss.detach())
        return loss

    return job.method.losses(job.model, forward, loss_of)


def _next_term(job: Job, terms: Iterator[Tensor]) -> Tensor | None:
    """Return the next term of a loss, of shape [], in the trial's precision, or ``None``."""
    with precision_of(job):
        return next(terms, None)


def _scaled(job: Job, loss: Tensor) -> Tensor:
    """Return a loss of shape [], scaled if the precision is fp16."""
    return loss if job.scaler is None else job.scaler.scaled(loss)


def _step_after_backward(job: Job, clip_norm: float | None) -> None:
    if job.scaler is not None:
        (optimizer,) = job.optimizers
        job.scaler.step(optimizer, job.trained(), clip_norm)
        return
    if clip_norm is not None:
        nn.utils.clip_grad_norm_(job.trained(), clip_norm)
    for optimizer in job.optimizers:
        optimizer.step()


def precision_of(job: Job) -> torch.autocast:
    """Return the context in which a forward pass has the trial's precision."""
    return autocast(job.device.torch_device, job.spec.workload.precision)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which operators on a device have a precision of the spec."""
    return torch.autocast(device.type, AUTOCAST.get(precision), enabled=precision in AUTOCAST)


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
