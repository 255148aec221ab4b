"""Predict memory and FLOPs of a trial: run a step over tensors without values."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bsrbench.harness.devices import torch_device
from bsrbench.harness.devices.gpu_properties import gpu_properties
from bsrbench.harness.errors import BadInput, Unreadable
from bsrbench.harness.meters.attention_operators import attention_kernel
from bsrbench.harness.meters.forward_macs import disagreement, forward_macs
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.method import Method, NeedsValues, Unsupported, apply
from bsrbench.harness.model.stored_weight import parameter_numbers
from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.predict.cuda_allocated import AllocatedPrediction
from bsrbench.harness.predict.fake_step import (
    NOT_OF_ITS_DEVICE,
    fake_batch,
    fake_job,
    on_cuda,
    predicted_step,
    target_gpu,
    why_unpredictable,
)
from bsrbench.harness.predict.paper_convention import Undefined, paper_convention_bytes
from bsrbench.harness.profiler.counted_cycle import over_states
from bsrbench.harness.profiler.counted_step import CountedStep, at_peak_metrics, counted_step
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import (
    Measured,
    PassReadings,
    absent,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import EstimatedAllocated, Sidecar
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.harness.training.compiled_forward import require_compiles
from bsrbench.harness.training.current_optimizers import each_state, most_trained
from bsrbench.harness.training.job import Job, Loader, preprocessing
from bsrbench.harness.training.kept_storages import KeptStorages, census
from bsrbench.harness.training.training_step import first_forward, images_of_passes
from bsrbench.harness.workload import models, tasks

CUDA_ASSUMES = (
    "predicted for {gpu}: every storage is rounded up to blocks of 512 bytes, and attention is "
    "assumed to run a fused kernel that saves its output and one number per row; cuDNN's "
    "workspaces (patch convolution), the allocator's reserve and the CUDA context are not included"
)
NO_GPU_HERE = ", because no GPU is here"
NOT_OF_COMPILED = (
    "predicted only for a step that is not compiled, because the compiler chooses what a compiled "
    "step saves and recomputes; FLOPs are those of the uncompiled step"
)
ONLY_PREDICTED = (
    "nothing was executed: memory is predicted, and FLOPs are counted over tensors without values"
)
# Metrics that every profile takes from its estimate pass. The pass also predicts metrics that the
# profile measures; these predicted values go into the sidecar.
ESTIMATED_ALONE = frozenset(
    name for name, metric in METRICS.items() if metric.measured_by[:1] == ("estimate",)
)
MEMORY_ESTIMATES = ("peak_estimated_bytes", "peak_estimated_allocated_bytes")
ALL_ESTIMATES = (
    *("trained_parameters", "total_parameters", "paper_convention_bytes", "forward_macs"),
    *(*MEMORY_ESTIMATES, "step_flop"),
)
PREDICTED = frozenset(name for name, metric in METRICS.items() if "estimate" in metric.measured_by)


def estimate_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Predict what the other passes of a profile measure, and what only an estimate provides."""
    try:
        predicted = predict(spec, load)
    except (Unsupported, BadInput):
        raise
    except Exception as error:  # noqa: BLE001 - a failed prediction must not lose measured values
        why = f"the estimate failed: {type(error).__name__}: {error}"
        return absent(AbsenceKind.UNREADABLE, why, *ESTIMATED_ALONE)
    alone = spec.profile is not None and spec.profile.only_predict
    names = PREDICTED if alone else ESTIMATED_ALONE
    rest = {name: v for name, v in predicted.measurements.items() if name not in names}
    # In a measured profile, the FLOP pass reports the kernel that ran. If CUDA is predicted on a
    # CPU, the kernel is not known.
    kernel = predicted.attention_kernel if alone and not on_cuda(spec.workload) else None
    return PassReadings(
        {name: predicted.measurements[name] for name in names if name in predicted.measurements},
        {name: why for name, why in predicted.missing.items() if name in names},
        (*predicted.notes, *notes_of(NoteKind.PREDICTION, [ONLY_PREDICTED] if alone else [])),
        Sidecar(
            estimated={**_numbers(rest), **(predicted.detail.estimated or {})},
            estimated_allocated=predicted.detail.estimated_allocated,
        ),
        attention_kernel=kernel,
    )


def _numbers(measured: Mapping[str, Measured]) -> dict[str, int | float]:
    return {name: value for name, value in measured.items() if isinstance(value, int | float)}


def predict(spec: TrialSpec, load: Loader) -> PassReadings:
    """Return peak memory with its categories, FLOPs, MACs and parameters of a step.

    Raises:
        BadInput: the workload names something that does not exist or does not fit.
        Unsupported: the method cannot be applied to the model, or is not made for the device.
    """
    with census() as kept:
        return _predict(spec, load, kept)


def _predict(spec: TrialSpec, load: Loader, kept: KeptStorages) -> PassReadings:
    workload = spec.workload
    method = load(spec.method, **spec.options)
    method.require_device(torch_device(workload.device).type)
    if workload.compiled_step:
        require_compiles(method)
    model = models.outline(workload, tasks.classes(workload))
    preprocess = preprocessing(model, spec)
    try:
        prepared = apply(method, model)
    except NeedsValues as error:
        return absent(AbsenceKind.UNREADABLE, str(error), *ALL_ESTIMATES)
    macs = _macs(prepared, preprocess.side, workload)
    parts = [_parameters(prepared, method), _convention(prepared, method, workload), macs]
    no_memory = _why_no_memory(method, workload)
    try:
        with fake_job(spec.uncompiled(), method, prepared, preprocess, kept) as job:
            batch = fake_batch(job)
            parts += _of_steps(job, batch, macs.measurements.get("forward_macs"), no_memory)
            kernel = attention_kernel(first_forward(job, batch[0]))
            parts.append(PassReadings({}, attention_kernel=kernel))
    except (RuntimeError, AssertionError) as error:
        why = why_unpredictable(error)
        parts.append(absent(AbsenceKind.UNREADABLE, why, *MEMORY_ESTIMATES, "step_flop"))
    return joined_readings(parts)


def _parameters(prepared: nn.Module, method: Method) -> PassReadings:
    return PassReadings(
        {
            "trained_parameters": most_trained(method, prepared),
            "total_parameters": sum(count for count, _ in parameter_numbers(prepared)),
        }
    )


def _of_steps(
    job: Job, batch: tuple[Tensor, Tensor], macs: Measured, no_memory: str
) -> list[PassReadings]:
    """Run a fake step in each state for its FLOPs, and one for its memory.

    The first step also creates the optimizer state and the other tensors that exist from then on.
    The second one is a steady one.
    """
    steps, flops = [], StepFlops()
    for _ in job.current.in_each_state():
        with flops:
            counted_step(job, batch, enter_phase=flops.enter_phase)
        steps += [] if no_memory else [predicted_step(job, batch)]
    states = len(job.current.states)
    counted = _flops(job, flops, max(1, states), macs)
    if no_memory:
        return [counted, absent(AbsenceKind.NOT_AVAILABLE, no_memory, *MEMORY_ESTIMATES)]
    return [counted, _memory(job, steps), over_states(states, [step.peak for step, _ in steps])]


def _flops(job: Job, flops: StepFlops, times: int, macs: Measured) -> PassReadings:
    """Return the mean FLOPs of some steps."""
    forward = flops.by_phase["forward"] // times
    doubts = []
    if isinstance(macs, int) and job.method.evaluates_alike:
        doubts = disagreement(forward, macs * job.method.forward_passes)
    return PassReadings(
        {"forward_flop": forward, "step_flop": sum(flops.by_phase.values()) // times},
        notes=notes_of(NoteKind.FLOPS, [*flops.overlooked(), *doubts]),
    )


def _why_no_memory(method: Method, workload: Workload) -> str:
    """Return why a fake step does not predict the memory of a real one; empty if it does."""
    if workload.compiled_step:
        return NOT_OF_COMPILED
    return "" if method.made_for("cpu") else NOT_OF_ITS_DEVICE


def _memory(job: Job, steps: list[tuple[CountedStep, AllocatedPrediction | None]]) -> PassReadings:
    """Return the memory of the step with the largest peak, and that of the allocator."""
    step, _ = max(steps, key=lambda of: of[0].peak)
    allocated = max((of for _, of in steps if of), key=lambda of: of.peak_bytes, default=None)
    counted = PassReadings(
        {
            "peak_estimated_bytes": step.peak,
            "held_after_forward_bytes": step.held_after_forward,
        }
        | at_peak_metrics(step),
        detail=Sidecar(estimated={"peak_place": step.peak_place}),
    )
    return joined_readings([counted, *_allocated(allocated, job.spec.workload)])


def _allocated(prediction: AllocatedPrediction | None, workload: Workload) -> list[PassReadings]:
    """Return the predicted peak of the allocator of a GPU, its parts, and what was assumed."""
    gpu = target_gpu(workload)
    if prediction is None or gpu is None:
        return []
    here = gpu_properties(torch_device(workload.device)) is not None
    assumed = CUDA_ASSUMES.format(gpu=gpu.name + ("" if here else NO_GPU_HERE))
    return [
        PassReadings(
            {"peak_estimated_allocated_bytes": prediction.peak_bytes},
            notes=notes_of(NoteKind.PREDICTION, [assumed]),
            detail=Sidecar(
                estimated_allocated=EstimatedAllocated(gpu.name, prediction.parts, prediction.place)
            ),
        )
    ]


def _convention(prepared: nn.Module, method: Method, workload: Workload) -> PassReadings:
    name = "paper_convention_bytes"
    if workload.precision != "fp32":
        return absent(AbsenceKind.NOT_AVAILABLE, "the convention is defined for fp32 only", name)
    try:
        images = workload.micro_batch or workload.batch
        most = max(
            paper_convention_bytes(prepared, method, images) for _ in each_state(method, prepared)
        )
        return PassReadings({name: most})
    except Undefined as reason:
        return absent(AbsenceKind.NOT_AVAILABLE, str(reason), name)


def _macs(prepared: nn.Module, side: int, workload: Workload) -> PassReadings:
    try:
        image = torch.empty(1, 3, side, side, device="meta")
        passes = images_of_passes(workload)
        total = sum(forward_macs(prepared, image, passes).total for _ in turns(prepared))
        return PassReadings({"forward_macs": total})
    except Unreadable as reason:
        return absent(AbsenceKind.UNREADABLE, str(reason), "forward_macs")
