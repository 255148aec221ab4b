"""A training step over tensors that have shapes but no values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from bsrbench.harness.devices import torch_device
from bsrbench.harness.devices.cpu import Cpu
from bsrbench.harness.devices.gpu_properties import H100, GpuProperties, gpu_properties
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES
from bsrbench.harness.method import Method, NeedsValues
from bsrbench.harness.model.attention import STANDS_FOR_CUDA
from bsrbench.harness.predict.cuda_allocated import AllocatedPrediction, allocated_prediction
from bsrbench.harness.predict.cuda_workspaces import OperatorMemory, OperatorSizesLog
from bsrbench.harness.predict.stand_ins import stand_ins
from bsrbench.harness.profiler.counted_step import CountedStep, counted_step
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.harness.torch_internals.eager_internals import (
    NEEDS_NUMBERS,
    FakeTensorMode,
    has_kernel,
)
from bsrbench.harness.training.job import Job, make_ready
from bsrbench.harness.training.kept_storages import KeptStorages
from bsrbench.harness.workload.images.preprocess import Preprocess

NO_SHAPE = "no fake impl registered"  # torch's message for a custom operator; a plain RuntimeError
NOT_FAKE = "Please convert all Tensors to FakeTensors"  # torch's message; an AssertionError

NOT_OF_ITS_DEVICE = (
    "predictions use CPU tensors, and on a CPU this method works differently than on the device "
    "that it is made for"
)


@contextmanager
def fake_numbers(*roots: object) -> Iterator[list[Tensor]]:
    """Make all tensors fake while this context is open: tensors with shapes but no values.

    The tensors of a model and its method are replaced; new tensors are fake from the start.

    Yields:
        The replaced tensors, of any shape.
    """
    _teach_fused_sgd()
    # No fallback: it would run the real kernel over real memory of the same size.
    with FakeTensorMode(allow_fallback_kernels=False), stand_ins(*roots) as originals:
        yield originals


@contextmanager
def fake_job(
    spec: TrialSpec, method: Method, prepared: nn.Module, preprocess: Preprocess, kept: KeptStorages
) -> Iterator[Job]:
    """Prepare a trial whose tensors have shapes but no values, while this context is open."""
    with fake_numbers(method, prepared) as originals:
        kept.disregard(originals)
        job = make_ready(spec, method, prepared, Cpu(torch.device("cpu")), preprocess)
        before = STANDS_FOR_CUDA.set(on_cuda(spec.workload))
        try:
            yield replace(job, kept=kept)
        finally:
            STANDS_FOR_CUDA.reset(before)


def on_cuda(workload: Workload) -> bool:
    """Return whether the predicted step is for an NVIDIA GPU."""
    return torch_device(workload.device).type == "cuda"


def grain_of(workload: Workload) -> int:
    """Return the block size to which storage sizes are rounded up."""
    return CUDA_BLOCK_BYTES if on_cuda(workload) else 1


def target_gpu(workload: Workload) -> GpuProperties | None:
    """Return the GPU of a step for CUDA, an H100 if none is here; ``None`` for other devices."""
    if not on_cuda(workload):
        return None
    return gpu_properties(torch_device(workload.device)) or H100


def predicted_step(
    job: Job, batch: tuple[Tensor, Tensor], *, enter_phase: Callable[[str], object] = str
) -> tuple[CountedStep, AllocatedPrediction | None]:
    """Count a fake step, and predict the allocator's peak if the step is for CUDA.

    Args:
        job: the trial, over tensors without values.
        batch: images [n, 3, side, side] and labels [n].
        enter_phase: called with the name of each phase when it begins.
    """
    workload = job.spec.workload
    gpu = target_gpu(workload)
    if gpu is None:
        return counted_step(job, batch, enter_phase=enter_phase), None
    with OperatorSizesLog() as log:
        step = counted_step(job, batch, grain=CUDA_BLOCK_BYTES, enter_phase=enter_phase)
    operators = [OperatorMemory() if o is None else o.memory(gpu) for o in log.operators]
    return step, allocated_prediction(step.lives, step.timeline, operators, gpu)


def _teach_fused_sgd() -> None:
    """Register a fake kernel of torch's fused SGD, which works in place; torch 2.14 has none."""
    if not has_kernel("aten::_fused_sgd_", "Meta"):
        torch.library.register_fake("aten::_fused_sgd_", lambda *_, **__: None)


def fake_batch(job: Job) -> tuple[Tensor, Tensor]:
    """Return images [n, 3, side, side] and labels [n] of a step; n is one batch per task."""
    count, side = job.spec.workload.step_images(), job.preprocess.side
    return torch.empty(count, 3, side, side), torch.empty(count, dtype=torch.int64)


def why_unpredictable(error: Exception) -> str:
    """Return why a step cannot run over fake tensors; raise an error of another cause again."""
    message = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, NeedsValues):
        return message
    if isinstance(error, NEEDS_NUMBERS):
        return f"the step's shapes or values depend on data: {message}"
    if NO_SHAPE in str(error):
        return f"an operator does not define the shape of its output: {message}"
    if NOT_FAKE in str(error):
        return f"the step reads a tensor that the prediction cannot replace: {message}"
    raise error
