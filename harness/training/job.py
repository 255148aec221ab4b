"""The job of a trial: the prepared model, its optimizers and its device."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from bsrbench.harness.devices import Device, open_device
from bsrbench.harness.method import Method, apply
from bsrbench.harness.model.task_heads import TaskTurn, turn_of
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.torch_internals.eager_internals import tree_leaves
from bsrbench.harness.training.compiled_forward import CompiledForward, require_compiles
from bsrbench.harness.training.current_optimizers import (
    CurrentOptimizers,
    Optimizers,
    most_trained,
    require_estimates,
)
from bsrbench.harness.training.kept_storages import KeptStorages, Storages, storages
from bsrbench.harness.training.loss_scaling import LossScaler
from bsrbench.harness.workload import models, tasks, weights
from bsrbench.harness.workload.images.preprocess import Preprocess

# Returns the method with a name and options; the harness does not know methods by name.
Loader = Callable[..., Method]


@dataclass(frozen=True)
class Job:
    """A prepared trial: everything that a step needs, on its device.

    Attributes:
        model: the prepared model; never a compiled one.
        forward: calls the model, compiled if the workload says so.
        current: the optimizers of what trains at the moment.
        classes: number of classes of each task.
        scaler: scales the loss; ``None`` if the precision is not fp16.
        turn: the current task; ``None`` if there is only one task.
        weights: the description of the initial weights for the record, if the model is trained.
        kept: finds other storages that live between steps.
    """

    spec: TrialSpec
    method: Method
    model: nn.Module
    forward: Callable[[Tensor], Tensor]
    current: CurrentOptimizers
    device: Device
    classes: tuple[int, ...]
    preprocess: Preprocess
    scaler: LossScaler | None = None
    turn: TaskTurn | None = None
    weights: dict[str, Any] = field(default_factory=dict)
    kept: KeptStorages = field(default_factory=KeptStorages)

    @property
    def optimizers(self) -> Optimizers:
        """One optimizer, or one per trained parameter if each of them steps alone."""
        return self.current.now

    def trained(self) -> list[Tensor]:
        """Return the parameters, of any shape, that the optimizers update."""
        return self.current.trained()

    def trained_parameters(self) -> int:
        """Return the number of elements that the optimizers update at once, at most."""
        return most_trained(self.method, self.model)

    def skipped_steps(self) -> int:
        """Return how many optimizer steps fp16 has skipped; 0 in another precision."""
        return 0 if self.scaler is None else self.scaler.skipped

    def held(self) -> Iterator[Tensor]:
        """Yield what every step needs, of any shape.

        This is parameters, buffers, optimizer state, and the state of the loss scaler.
        """
        yield from self.model.parameters()
        yield from self.model.buffers()
        for _, kept in self.optimizer_state():
            yield from kept
        if self.scaler is not None:
            yield from self.scaler.held()

    def find_kept(self, batch: Iterable[Tensor]) -> Storages:
        """Return other storages that the method, the model or a Python module keeps between steps.

        Args:
            batch: images [n, 3, side, side] and labels [n].
        """
        return self.kept.find([self.method, self.model], [*self.held(), *batch])

    def between_steps(self, batch: Iterable[Tensor]) -> Storages:
        """Return all storages that live between steps, including the batch.

        Args:
            batch: images [n, 3, side, side] and labels [n].
        """
        return storages([*self.held(), *batch]) | self.find_kept(batch)

    def optimizer_state(self) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield each parameter that has optimizer state, with the tensors of this state.

        The tensors may have any shape.
        """
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                yield parameter, [kept for kept in tree_leaves(state) if isinstance(kept, Tensor)]


def begin(spec: TrialSpec, load: Loader, kept: KeptStorages | None = None) -> Job:
    """Build model, method and optimizer of a trial.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        kept: finds storages that live between steps, among those that are new since it was made.

    Raises:
        BadInput: the workload names something that does not exist or does not fit.
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
    """Return the preprocessing of stored images for a model that no method has changed yet."""
    side = models.image_size(model, spec.workload)
    return Preprocess(side, *models.pixel_statistics(model), spec.training)


def make_ready(
    spec: TrialSpec, method: Method, model: nn.Module, device: Device, preprocess: Preprocess
) -> Job:
    """Return the job of a model that its method has prepared, in training mode.

    Raises:
        Unsupported: the method leaves nothing to train, the step cannot be compiled as required, or
            the trial asks for what needs a backward pass, and the method has none.
    """
    classes = tasks.classes(spec.workload)
    require_estimates(method, spec)
    scaled = spec.workload.precision == "fp16"
    scaler = LossScaler(device.torch_device) if scaled else None
    current = CurrentOptimizers(method, model, spec.workload, scaler)
    forward: Callable[[Tensor], Tensor] = model
    if spec.workload.compiled_step:
        require_compiles(method)
        forward = CompiledForward(model)
    ready = model.train(), forward, current, device, classes, preprocess
    return Job(spec, method, *ready, scaler=scaler, turn=turn_of(model))


def to_device(job: Job, raw: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return images [n, 3, side, side] in bytes as model input, and labels, on the job's device."""
    target = job.device.torch_device
    return job.preprocess.normalise(raw.to(target)), labels.to(target)
