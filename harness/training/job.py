"""The one training step, the one training loop, and evaluation."""

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import add
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.devices import Device, open_device
from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Method, apply
from bsrbench.harness.model.task_heads import TaskTurn, turn_of, turns
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.harness.torch_internals.eager_internals import tree_leaves
from bsrbench.harness.training.compiled_forward import CompiledForward, require_compiles
from bsrbench.harness.training.kept_storages import KeptStorages, Storages, storages
from bsrbench.harness.training.optimizers import make_optimizers
from bsrbench.harness.training.resume import Checkpoint, Progress
from bsrbench.harness.workload import data, models, tasks, weights
from bsrbench.harness.workload.images import Preprocess, evaluation_batches, training_batches

EVALUATION_BATCH = 64
FINAL_LOSSES = 5
WORKERS = "BSRBENCH_WORKERS"


# What turns a method's name and options into a method; the harness knows none by name.
Loader = Callable[..., Method]


class Diverged(Exception):  # noqa: N818 - a stored outcome, not a programming error
    """The loss is no longer a finite number."""


@dataclass(frozen=True)
class Job:
    """A trial made ready: everything a step needs, on its device.

    Attributes:
        model: as its method has prepared it; never a compiled one.
        forward: calls the model, compiled if the workload says so.
        optimizers: one, or one a trained parameter that steps inside the backward pass.
        classes: of each task.
        turn: says whose turn it is; ``None`` where there is one task.
        weights: what a record says of those the model began with, if it is to be trained.
        kept: finds what else lives between steps.
    """

    spec: TrialSpec
    method: Method
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    optimizers: tuple[torch.optim.Optimizer, ...]
    device: Device
    classes: tuple[int, ...]
    preprocess: Preprocess
    turn: TaskTurn | None = None
    weights: dict[str, Any] = field(default_factory=dict)
    kept: KeptStorages = field(default_factory=KeptStorages)

    def trained(self) -> list[Tensor]:
        """Return the parameters the optimizers were given."""
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return [parameter for group in groups for parameter in group["params"]]

    def held(self) -> Iterator[Tensor]:
        """Yield what every step needs: parameters, buffers, optimizer state."""
        yield from self.model.parameters()
        yield from self.model.buffers()
        for _, kept in self.optimizer_state():
            yield from kept

    def find_kept(self, batch: Iterable[Tensor]) -> Storages:
        """Return what else the method, the model or a module keeps between steps over a batch."""
        return self.kept.find([self.method, self.model], [*self.held(), *batch])

    def between_steps(self, batch: Iterable[Tensor]) -> Storages:
        """Return all that lives between steps over a batch, which is in it."""
        return storages([*self.held(), *batch]) | self.find_kept(batch)

    def optimizer_state(self) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield each parameter that has one with the tensors of its optimizer's state."""
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                yield parameter, [kept for kept in tree_leaves(state) if isinstance(kept, Tensor)]


def begin(spec: TrialSpec, load: Loader, kept: KeptStorages | None = None) -> Job:
    """Build model, method and optimizer of a trial.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        kept: finds what lives between steps, of all that is new since it was made.

    Raises:
        BadInput: the workload names something that is not there or does not fit.
        Unsupported: the method cannot be applied to the model, or is not made for the device.
    """
    workload = spec.workload
    device = open_device(workload.device)
    method = load(spec.method, **spec.options)
    method.require_device(device.torch_device.type)
    model = models.build(workload, tasks.classes(workload), spec.seed)
    facts = {}
    if spec.training is not None:
        facts = weights.facts(workload, model)
        models.begin_head(model, spec.training.head)
    preprocess = preprocessing(model, spec)
    model = apply(method, model).to(device.torch_device)
    torch.manual_seed(spec.seed)
    job = make_ready(spec, method, model, device, preprocess)
    return replace(job, weights=facts, kept=kept or job.kept)


def preprocessing(model: nn.Module, spec: TrialSpec) -> Preprocess:
    """Return how stored images become the input of a model that no method has changed yet."""
    side = models.image_size(model, spec.workload)
    return Preprocess(side, *models.pixel_statistics(model), spec.training)


def make_ready(
    spec: TrialSpec, method: Method, model: nn.Module, device: Device, preprocess: Preprocess
) -> Job:
    """Put a model that its method has prepared into training mode and give it its optimizer.

    Raises:
        Unsupported: the method leaves nothing to train, or a step that must be compiled cannot be.
    """
    classes = tasks.classes(spec.workload)
    optimizers = make_optimizers(model, spec.workload)
    forward: Callable[[Tensor], Tensor] = model
    if spec.workload.compiled_step:
        require_compiles(method)
        forward = CompiledForward(model)
    turn = turn_of(model)
    return Job(spec, method, model.train(), forward, optimizers, device, classes, preprocess, turn)


def set_learning_rate(job: Job, rate: float) -> None:
    """Give every parameter group this learning rate, or its share of it."""
    for optimizer in job.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]


def _ignore(_: str) -> None:
    """Let a phase begin unobserved."""


def training_step(
    job: Job,
    images: Tensor,
    labels: Tensor,
    *,
    clip_norm: float | None = None,
    enter_phase: Callable[[str], None] = _ignore,
) -> float:
    """Do one optimizer step as ``optimizer_step`` does and return the mean loss.

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

    Of several tasks each has its turn, with an optimizer step of its own; heads and gates of the
    others have no gradient in it, and the optimizer passes them over. Reads no value back, so it
    runs over fake tensors and lets a GPU run ahead. Gradients are freed at the end, so that a step
    starts and ends with the same tensors alive.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on the job's device; of several tasks, those of the first
            task, then those of the next.
        labels: [batch].
        clip_norm: bound on the norm of all gradients.
        enter_phase: told ``forward``, ``backward`` and ``optimizer`` as they begin.
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
    """Do an optimizer step of the task whose turn it is, and return its mean loss."""
    size = job.spec.workload.micro_batch or len(labels)
    total = torch.zeros((), device=images.device)
    smoothing = job.spec.training.label_smoothing if job.spec.training else 0.0
    for part, targets in zip(images.split(size), labels.split(size), strict=True):
        enter_phase("forward")
        with _precision(job):
            loss = F.cross_entropy(job.forward(part), targets, label_smoothing=smoothing)
        share = len(targets) / len(labels)
        enter_phase("backward")
        (loss * share).backward()
        total += loss.detach() * share
        del loss
    enter_phase("optimizer")
    if not job.spec.workload.optimizer_in_backward:  # else it is all done
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


def _precision(job: Job) -> torch.autocast:
    enabled = job.spec.workload.precision == "bf16"
    return torch.autocast(job.device.torch_device.type, torch.bfloat16, enabled=enabled)


@torch.no_grad()
def logits(job: Job, images: Tensor) -> Tensor:
    """Return the model's logits in the trial's precision, without gradients.

    Of several tasks they are those of the task whose turn it is.
    """
    with _precision(job):
        return job.forward(images)


def images_of_passes(workload: Workload) -> list[int]:
    """Return how many images each forward pass of a task's batch is given in a step."""
    size = workload.micro_batch or workload.batch
    return [min(size, workload.batch - first) for first in range(0, workload.batch, size)]


def evaluate_batch(job: Job, images: Tensor) -> None:
    """Do the forward passes of a step's batch in evaluation, of each task its own."""
    for _, own in zip(turns(job.model), images.split(job.spec.workload.batch), strict=True):
        logits(job, own)


def forward_pass(job: Job, images: Tensor) -> None:
    """Do the forward pass of a step, uncompiled, of each task its own, and nothing else."""
    for _ in turns(job.model):
        with _precision(job):
            job.model(images)


def first_forward(job: Job, images: Tensor) -> Callable[[], None]:
    """Return what runs the forward pass of the first micro-batch of images.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on its device.
    """
    workload = job.spec.workload
    return lambda: forward_pass(job, images[: workload.micro_batch or workload.batch])


def final_loss(losses: list[float]) -> float:
    """Return the mean loss of the last few batches."""
    last = losses[-FINAL_LOSSES:]
    return reduce(add, last) / len(last)  # the same on every Python: 3.12 changed its sum


def train(
    job: Job,
    images: tuple[data.ImageData, ...],
    training: Training,
    checkpoint: Checkpoint | None = None,
) -> Progress:
    """Train for the number of steps asked for, going on from a checkpoint where there is one.

    Args:
        job: the trial.
        images: of each task.
        training: how.
        checkpoint: where to go on from, and what to keep.

    Raises:
        Diverged: the loss became infinite or not a number, at which step.
        UnusableError: the checkpoint is damaged, or of another trial.
    """
    keeper = checkpoint or Checkpoint()
    progress = keeper.restore(job.model, job.optimizers, training.steps)
    steps = range(progress.step, training.steps)
    stream = _batches(job, images, steps)
    start = time.perf_counter() - progress.seconds
    for step, (raw, labels) in zip(steps, stream, strict=True):
        set_learning_rate(job, learning_rate_at(step, training))
        try:
            loss = training_step(job, *to_device(job, raw, labels), clip_norm=training.clip_norm)
        except Diverged as error:
            before = f", {progress.losses[-1]:.4g} the step before" if progress.losses else ""
            raise Diverged(f"{error} at step {step}{before}") from None
        progress.losses.append(loss)
        progress.step = step + 1
        read_curve = training.evaluate_every and progress.step % training.evaluate_every == 0
        if not (read_curve or keeper.due() or progress.step == training.steps):
            continue
        job.device.synchronise()
        progress.seconds = time.perf_counter() - start
        if read_curve:
            progress.curve_steps.append(progress.step)
            progress.curve_seconds.append(progress.seconds)
            progress.curve_accuracies.append(
                fmean(accuracies(job, [of_task.validation for of_task in images]))
            )
        if keeper.due():
            keeper.save(job.model, job.optimizers, progress)
        start = time.perf_counter() - progress.seconds  # the clock stood still
    return progress


def _batches(
    job: Job, images: tuple[data.ImageData, ...], steps: range
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels of each step, those of a task behind those of the one before.

    Each task goes through its own images, in an order of its own, again and again.
    """
    size, seed, count = job.spec.workload.batch, job.spec.seed, workers()
    streams = [
        training_batches(of_task.train, job.preprocess, seed, steps, size, count)
        for of_task in images
    ]
    for parts in zip(*streams, strict=True):
        raw, labels = zip(*parts, strict=True)
        yield (raw[0], labels[0]) if len(parts) == 1 else (torch.cat(raw), torch.cat(labels))


def learning_rate_at(step: int, training: Training) -> float:
    """Return the rate of a step counted from 0: linear warm-up, then half a cosine to its end."""
    if step < training.warmup_steps:
        return training.learning_rate * (step + 1) / training.warmup_steps
    left = max(1, training.steps - training.warmup_steps)
    done = (step - training.warmup_steps) / left
    end = training.final_learning_rate
    return end + (training.learning_rate - end) * 0.5 * (1 + math.cos(math.pi * done))


def to_device(job: Job, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return images [n, 3, side, side] in bytes as model input, and labels, on the job's device."""
    target = job.device.torch_device
    return job.preprocess.normalise(raw.to(target)), labels.to(target)


def accuracies(job: Job, splits: Sequence[data.Split]) -> list[float]:
    """Return the accuracy of each task on its split."""
    return [accuracy(job, split) for _, split in zip(turns(job.model), splits, strict=True)]


def accuracy(job: Job, split: data.Split) -> float:
    """Return the share of a split whose highest logit is the label, for whose turn it is."""
    job.model.eval()
    right = 0
    for raw, labels in evaluation_batches(split, job.preprocess, EVALUATION_BATCH, workers()):
        images, targets = to_device(job, raw, labels)
        right += int((logits(job, images).argmax(1) == targets).sum())
    job.model.train()
    return right / len(split.labels)


def workers() -> int:
    """Return how many processes prepare images: ``BSRBENCH_WORKERS``, else none beside this one.

    Raises:
        BadInput: it is not a number of processes.
    """
    asked = os.environ.get(WORKERS) or "0"
    if not asked.isdecimal():
        raise BadInput(f"{WORKERS}={asked!r}: expected a number of processes, 0 or more")
    return int(asked)
