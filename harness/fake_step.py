"""A training step over tensors that have shapes and no numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from harness.devices import torch_device
from harness.devices.cpu import Cpu
from harness.meters.counted import CUDA_BLOCK_BYTES
from harness.method import Method
from harness.spec import TrialSpec, Workload
from harness.training import Job, make_ready
from harness.workload.images import Preprocess

DEPENDS_ON_DATA = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
NO_SHAPE = "no fake impl registered"  # torch's words about a custom operator; a plain RuntimeError

NOT_OF_ITS_DEVICE = (
    "predicted over tensors of a CPU, on which this method does not do what it does on the device "
    "it is made for"
)


@contextmanager
def fake_numbers(model: nn.Module) -> Iterator[None]:
    """Let tensors have shapes and no numbers; those of a meta model become such ones."""
    _teach_fused_sgd()
    # No fallback: it would run the real kernel over as much real memory.
    with FakeTensorMode(allow_fallback_kernels=False):
        _replace_by_fakes(model)
        yield


def fake_job(spec: TrialSpec, method: Method, prepared: nn.Module, preprocess: Preprocess) -> Job:
    """Return a trial made ready, its model already without numbers; to be called among fakes."""
    return make_ready(spec, method, prepared, Cpu(torch.device("cpu")), preprocess)


def on_cuda(workload: Workload) -> bool:
    """Return whether the step predicted is one of an NVIDIA GPU."""
    return torch_device(workload.device).type == "cuda"


def grain_of(workload: Workload) -> int:
    """Return what every storage's size is rounded up to."""
    return CUDA_BLOCK_BYTES if on_cuda(workload) else 1


def _teach_fused_sgd() -> None:
    """Tell torch that its fused SGD, which works in place, makes nothing; torch 2.14 lacks that."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_fused_sgd_", "Meta"):  # noqa: SLF001 - as torch's own tests ask
        torch.library.register_fake("aten::_fused_sgd_", lambda *_, **__: None)


def fake_batch(job: Job) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a step."""
    count, side = job.spec.workload.step_images(), job.preprocess.side
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


def why_unpredictable(error: RuntimeError) -> str:
    """Return why a fake step ended; an error that is no fault of faking is raised again."""
    said = (str(error).splitlines() or [type(error).__name__])[0]
    if isinstance(error, DEPENDS_ON_DATA):
        return f"the step's shapes or values depend on data: {said}"
    if NO_SHAPE in str(error):
        return f"an operator does not say what shape it makes: {said}"
    raise error
