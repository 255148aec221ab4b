"""Predict memory and FLOPs of one training step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bsrbench.harness.devices import torch_device
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.fake_step import (
    NOT_OF_ITS_DEVICE,
    fake_batch,
    fake_job,
    grain_of,
    predicted_step,
    why_unpredictable,
)
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Job, Loader, preprocessing
from bsrbench.harness.training.kept_storages import KeptStorages
from bsrbench.harness.workload import models, tasks

FEW = 2  # micro-batches that are run: the first makes the gradients, all others are like the second


@dataclass(frozen=True)
class StepCost:
    """The predicted cost of a step, or why there is no prediction.

    Attributes:
        peak_bytes: counted peak memory of a steady-state step.
        allocated_bytes: peak of the allocator of an NVIDIA GPU; ``None`` on other devices.
        step_flop: FLOPs of the whole step.
        trained_parameters: number of trained parameter elements.
        reason: why there is no prediction; otherwise empty.
    """

    peak_bytes: int = 0
    step_flop: int = 0
    trained_parameters: int = 0
    reason: str = ""
    allocated_bytes: int | None = None

    def limiting_bytes(self) -> int:
        """Return the predicted memory that decides whether the step fits on its device."""
        return self.peak_bytes if self.allocated_bytes is None else self.allocated_bytes


def step_cost(spec: TrialSpec, load: Loader, kept: KeptStorages | None = None) -> StepCost:
    """Predict memory and FLOPs of a step; the numbers equal those of ``predict.estimate``.

    Of many equal micro-batches only two are run: the first creates the gradients, and all others
    are equal. The bytes of the remaining inputs are added to the peak, and the FLOPs are scaled.
    One step is enough, unless it leaves tensors behind. Of a method with states, the peak is the
    largest over them, and the FLOPs are the mean.

    Args:
        spec: the trial.
        load: makes a method from its name.
        kept: finds the tensors that are kept between steps.

    Raises:
        BadInput: the workload names something that does not exist or does not fit.
        Unsupported: the method cannot be applied to the model, or its step cannot be predicted.
    """
    workload = spec.workload
    few = few_micro_batches(spec)
    with fake_trial(few, load, kept or KeptStorages()) as job:
        costs = [_cost_now(job) for _ in job.current.in_each_state()]
        rest = bytes_of_the_rest(job, workload.step_images())
    step_flop = sum(cost.step_flop for cost in costs) // len(costs)
    allocated = [c.allocated_bytes for c in costs if c.allocated_bytes is not None]
    return StepCost(
        peak_bytes=max(cost.peak_bytes for cost in costs) + rest,
        step_flop=step_flop * workload.batch // few.workload.batch,
        trained_parameters=max(cost.trained_parameters for cost in costs),
        allocated_bytes=max(allocated) + rest if allocated else None,
    )


def _cost_now(job: Job) -> StepCost:
    """Return the cost of a step in the state that a job has entered."""
    batch = fake_batch(job)
    _make_optimizer_state(job)
    with StepFlops() as flops:
        step, allocated = predicted_step(job, batch)
    if step.left_behind:
        step, allocated = predicted_step(job, batch)
    return StepCost(
        peak_bytes=step.peak,
        step_flop=sum(flops.by_phase.values()),
        trained_parameters=sum(parameter.numel() for parameter in job.trained()),
        allocated_bytes=None if allocated is None else allocated.peak_bytes,
    )


@contextmanager
def fake_trial(spec: TrialSpec, load: Loader, kept: KeptStorages) -> Iterator[Job]:
    """Prepare a trial over fake tensors, with its optimizer state, while this context is open.

    Args:
        spec: the trial.
        load: makes a method from its name.
        kept: finds the tensors that are kept between steps.

    Raises:
        BadInput: the workload names something that does not exist or does not fit.
        Unsupported: the method cannot be applied to the model, or a step in this context cannot be
            predicted.
    """
    workload = spec.workload
    method = load(spec.method, **spec.options)
    method.require_device(torch_device(workload.device).type)
    if not method.made_for("cpu"):
        raise Unsupported(NOT_OF_ITS_DEVICE)
    model = models.outline(workload, tasks.classes(workload))
    preprocess = preprocessing(model, spec)
    try:
        prepared = method.prepare(model)
        with fake_job(spec, method, prepared, preprocess, kept) as job:
            _make_optimizer_state(job)
            yield job
    except (RuntimeError, AssertionError) as error:
        raise Unsupported(why_unpredictable(error)) from error


def with_batch(spec: TrialSpec, batch: int) -> TrialSpec:
    """Return the trial with another batch, and with micro-batches that are not larger."""
    micro = spec.workload.micro_batch
    changes = {"batch": batch, "micro_batch": min(micro, batch) if micro else None}
    return spec.model_copy(update={"workload": spec.workload.model_copy(update=changes)})


def few_micro_batches(spec: TrialSpec) -> TrialSpec:
    """Return the trial with a smaller batch, if it has many equal micro-batches."""
    micro, batch = spec.workload.micro_batch, spec.workload.batch
    if micro is None or batch % micro or batch // micro <= FEW:
        return spec
    workload = spec.workload.model_copy(update={"batch": FEW * micro})
    return spec.model_copy(update={"workload": workload})


def bytes_of_the_rest(job: Job, batch: int) -> int:
    """Return how many bytes more the inputs of a larger batch have than the job's inputs."""
    grain = grain_of(job.spec.workload)
    more = 0
    for tensor in fake_batch(job):
        image = tensor.nbytes // len(tensor)
        more += _rounded(image * batch, grain) - _rounded(tensor.nbytes, grain)
    return more


def _rounded(size: int, grain: int) -> int:
    return -(-size // grain) * grain


def _make_optimizer_state(job: Job) -> None:
    """Create the optimizer state of each parameter, by optimizer steps with fake gradients."""
    known = {parameter for parameter, _ in job.optimizer_state()}
    if known.issuperset(job.trained()):
        return
    for parameter in job.trained():
        parameter.grad = torch.empty_like(parameter)
    for optimizer in job.optimizers:
        optimizer.step()
    for parameter in job.trained():
        parameter.grad = None
