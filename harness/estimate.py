"""Memory and FLOPs of a trial with nothing executed: a step over tensors without numbers."""

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from harness.compiled import require_compiles
from harness.convention import Undefined, paper_convention_bytes
from harness.counted_step import at_peak_metrics, counted_step
from harness.devices import torch_device
from harness.devices.cpu import Cpu
from harness.errors import BadInput, Unreadable
from harness.meters.counted import CUDA_BLOCK_BYTES
from harness.meters.flops import StepFlops
from harness.meters.macs import forward_macs
from harness.method import Method, Unsupported, apply
from harness.reading import Reading
from harness.spec import TrialSpec, Workload
from harness.training import Job, Loader, make_ready, optimizer_step, preprocessing
from harness.workload import data, models

CUDA_ASSUMES = (
    "predicted for CUDA on a CPU: every storage is rounded up to blocks of 512 bytes, and "
    "attention is taken to run a fused kernel that keeps its output and one number a row; "
    "workspaces (cuBLAS 8 to 32 MiB, cuDNN for the patch convolution), the allocator's reserve "
    "and the CUDA context come on top"
)
DEPENDS_ON_DATA = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
NO_SHAPE = "no fake impl registered"  # torch's words about a custom operator; a plain RuntimeError
NOT_OF_COMPILED = (
    "predicted only for a step that is not compiled: what a compiled one keeps and recomputes is "
    "the compiler's choice; FLOPs are those of the uncompiled step"
)
ONLY_PREDICTED = (
    "nothing was executed: memory is predicted, and FLOPs are counted over tensors without numbers"
)
# What a profile measures itself; its estimate pass keeps the predicted values in the sidecar.
ESTIMATED_ALONE = ("peak_estimated_bytes", "paper_convention_bytes")
PREDICTED = (
    *ESTIMATED_ALONE,
    *("forward_macs", "forward_flop", "step_flop", "trained_parameters", "total_parameters"),
)


def estimate_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Predict what the other passes of a profile measure; keep apart what only an estimate has."""
    try:
        found = predict(spec, load)
    except (Unsupported, BadInput):
        raise
    except Exception as error:  # noqa: BLE001 - what was measured is not lost with its prediction
        why = f"the estimate failed: {type(error).__name__}: {error}"
        return Reading(missing=dict.fromkeys(ESTIMATED_ALONE, why))
    alone = spec.profile is not None and spec.profile.only_predict
    wanted = PREDICTED if alone else ESTIMATED_ALONE
    own = {name: found.measurements[name] for name in wanted if name in found.measurements}
    missing = {name: why for name, why in found.missing.items() if name in wanted}
    rest = {name: v for name, v in found.measurements.items() if name not in wanted}
    notes = [*found.notes, *([ONLY_PREDICTED] if alone else [])]
    return Reading(own, missing, notes, {"estimated": rest | found.detail})


def predict(spec: TrialSpec, load: Loader) -> Reading:
    """Return peak memory with its categories, FLOPs, MACs and parameters of a step.

    Raises:
        BadInput: the workload names something that is not there or does not fit.
        Unsupported: the method cannot be applied to the model.
    """
    workload = spec.workload
    method = load(spec.method, **spec.options)
    if workload.compiled_step:
        require_compiles(method)
    model = models.outline(workload, data.classes(workload.data, workload.classes))
    preprocess = preprocessing(model, spec.training)
    prepared = apply(method, model)
    reading = Reading(
        {
            "trained_parameters": sum(p.numel() for p in prepared.parameters() if p.requires_grad),
            "total_parameters": sum(p.numel() for p in prepared.parameters()),
        }
    )
    _add_convention(reading, prepared, method, workload)
    _add_macs(reading, prepared, preprocess.side, workload.batch)
    try:
        _teach_fused_sgd()
        # No fallback: it would run the real kernel over as much real memory.
        with FakeTensorMode(allow_fallback_kernels=False):
            _replace_by_fakes(prepared)
            device = Cpu(torch.device("cpu"))
            job = make_ready(spec.uncompiled(), method, prepared, device, preprocess)
            batch = _fake_batch(job)
            _add_flops(reading, job, batch)
            if workload.compiled_step:
                reading.missing["peak_estimated_bytes"] = NOT_OF_COMPILED
            else:
                _add_memory(reading, job, batch)
    except RuntimeError as error:
        why = _why_unpredictable(error)
        reading.missing.update(dict.fromkeys(("peak_estimated_bytes", "step_flop"), why))
    return reading


def _why_unpredictable(error: RuntimeError) -> str:
    """Return why a fake step ended; an error that is no fault of faking is raised again."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, DEPENDS_ON_DATA):
        return f"the step's shapes or values depend on data: {said}"
    if NO_SHAPE in str(error):
        return f"an operator does not say what shape it makes: {said}"
    raise error


def _add_flops(reading: Reading, job: Job, batch: tuple[Tensor, Tensor]) -> None:
    """Run a fake step, which makes the optimizer's state too."""
    with StepFlops() as flops:
        optimizer_step(job, *batch, enter_phase=flops.enter_phase)
    reading.measurements["forward_flop"] = flops.by_phase["forward"]
    reading.measurements["step_flop"] = sum(flops.by_phase.values())
    reading.notes.extend(flops.overlooked())


def _add_memory(reading: Reading, job: Job, batch: tuple[Tensor, Tensor]) -> None:
    """Run a second fake step, a steady one."""
    on_cuda = torch_device(job.spec.workload.device).type == "cuda"
    step = counted_step(job, batch, grain=CUDA_BLOCK_BYTES if on_cuda else 1)
    reading.measurements.update(
        {
            "peak_estimated_bytes": step.peak,
            "held_after_forward_bytes": step.held_after_forward,
        }
        | at_peak_metrics(step)
    )
    if on_cuda:
        reading.notes.append(CUDA_ASSUMES)
    reading.detail["peak_place"] = step.peak_place


def _teach_fused_sgd() -> None:
    """Tell torch that its fused SGD, which works in place, makes nothing; torch 2.14 lacks that."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_sgd_", "Meta"):  # noqa: SLF001 - as torch's own tests ask
        torch.library.register_fake("aten::_fused_sgd_", lambda *_, **__: None)


def _fake_batch(job: Job) -> tuple[Tensor, Tensor]:
    count, side = job.spec.workload.batch, job.preprocess.side
    return torch.empty(count, 3, side, side), torch.empty(count, dtype=torch.int64)


def _replace_by_fakes(model: nn.Module) -> None:
    """Put a tensor without numbers in the place of every parameter and buffer of a meta model.

    Must run inside a fake tensor mode. A parameter that several modules share stays one.
    """
    fakes: dict[Tensor, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            if parameter not in fakes:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                fakes[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            setattr(module, name, fakes[parameter])
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _add_convention(
    reading: Reading, prepared: nn.Module, method: Method, workload: Workload
) -> None:
    name = "paper_convention_bytes"
    if workload.precision != "fp32":
        reading.missing[name] = "the convention counts fp32 only"
        return
    try:
        images = workload.micro_batch or workload.batch
        reading.measurements[name] = paper_convention_bytes(prepared, method, images)
    except Undefined as reason:
        reading.missing[name] = str(reason)


def _add_macs(reading: Reading, prepared: nn.Module, side: int, batch: int) -> None:
    try:
        macs = forward_macs(prepared, torch.empty(1, 3, side, side, device="meta"))
        reading.measurements["forward_macs"] = macs.total * batch
    except Unreadable as reason:
        reading.missing["forward_macs"] = str(reason)
