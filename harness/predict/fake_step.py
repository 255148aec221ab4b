"""A training step over tensors that have shapes but no values."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from bsrbench.harness.devices import torch_device
from bsrbench.harness.devices.cpu import Cpu
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES
from bsrbench.harness.method import Method
from bsrbench.harness.predict.stand_ins import stand_ins
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.harness.torch_internals.eager_internals import (
    NEEDS_NUMBERS,
    FakeTensorMode,
    has_kernel,
)
from bsrbench.harness.training.job import Job, make_ready
from bsrbench.harness.training.kept_storages import KeptStorages
from bsrbench.harness.workload.images import Preprocess

NO_SHAPE = "no fake impl registered"  # torch's words about a custom operator; a plain RuntimeError
NOT_FAKE = "Please convert all Tensors to FakeTensors"  # torch's words; an AssertionError

NOT_OF_ITS_DEVICE = (
    "predicted over tensors of a CPU, on which this method does not do what it does on the device "
    "it is made for"
)


@contextmanager
def fake_numbers(*roots: object) -> Iterator[list[Tensor]]:
    """Replace all tensors, including those of a model and its method, by tensors without values.

    Yields:
        The replaced tensors, of any shape.
    """
    _teach_fused_sgd()
    # No fallback: it would run the real kernel over as much real memory.
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
        yield replace(job, kept=kept)


def on_cuda(workload: Workload) -> bool:
    """Return whether the predicted step is for an NVIDIA GPU."""
    return torch_device(workload.device).type == "cuda"


def grain_of(workload: Workload) -> int:
    """Return the block size to which storage sizes are rounded up."""
    return CUDA_BLOCK_BYTES if on_cuda(workload) else 1


def _teach_fused_sgd() -> None:
    """Tell torch that its fused SGD, which works in place, makes nothing; torch 2.14 lacks that."""
    if not has_kernel("aten::_fused_sgd_", "Meta"):
        torch.library.register_fake("aten::_fused_sgd_", lambda *_, **__: None)


def fake_batch(job: Job) -> tuple[Tensor, Tensor]:
    """Return images [n, 3, side, side] and labels [n] of a step: n is a batch for each task."""
    count, side = job.spec.workload.step_images(), job.preprocess.side
    return torch.empty(count, 3, side, side), torch.empty(count, dtype=torch.int64)


def why_unpredictable(error: Exception) -> str:
    """Return why a fake step failed; an error with another cause is raised again."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, NEEDS_NUMBERS):
        return f"the step's shapes or values depend on data: {said}"
    if NO_SHAPE in str(error):
        return f"an operator does not say what shape it makes: {said}"
    if NOT_FAKE in str(error):
        return f"the step reads a tensor that is held where no other can stand for it: {said}"
    raise error
