"""What an operator allocates on CUDA beside its outputs, by the formulas of torch's source.

cuDNN chooses its workspaces at run time, so those of a convolution are not included. In a vision
transformer only the patch embedding has one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.devices.gpu_properties import GpuProperties
from bsrbench.harness.predict.reduction_buffers import reduction_buffers
from bsrbench.harness.torch_internals.eager_internals import (
    CPU_ATTENTION,
    CPU_ATTENTION_BACKWARD,
    TorchDispatchMode,
)

FLOAT_BYTES = 4
# Reductions, with the bytes of a partial result: a number, or mean, spread and counts.
REDUCTIONS = {
    **dict.fromkeys(("aten.sum", "aten.mean", "aten.amax", "aten.linalg_vector_norm"), FLOAT_BYTES),
    **dict.fromkeys(("aten.var", "aten.std", "aten.var_mean"), 4 * FLOAT_BYTES),
}
LAYER_NORM_BACKWARD = "aten.native_layer_norm_backward"
HALF = (torch.float16, torch.bfloat16)
FLASH_CAPABILITY = (8, 0)
EFFICIENT_ROWS = 32  # kAlignLSE
FLASH_ROWS, FLASH_WIDTH = 128, 32
MANY_ROWS, ROWS_OF_BLOCK, MOST_BLOCKS, WARP = 64 * 1024, 32, 32 * 1024, 32  # of layer norm


@dataclass(frozen=True)
class OperatorMemory:
    """What one operator of a step allocates on CUDA and not on the CPU.

    Attributes:
        workspaces: sizes of the blocks that it allocates for itself, all at the same time.
        resized: (bytes on the CPU, bytes on CUDA) of an output whose size differs; else ``None``.
    """

    workspaces: tuple[int, ...] = ()
    resized: tuple[int, int] | None = None


class OperatorMemoryLog(TorchDispatchMode):
    """Stores what each operator would allocate on CUDA, in the order of ``LiveBytes.timeline``.

    It must be entered before ``LiveBytes``.

    Args:
        gpu: where the step would run.
    """

    def __init__(self, gpu: GpuProperties) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.operators: list[OperatorMemory] = []
        self._gpu = gpu

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.namespace != "prim":
            self.operators.append(operator_memory(func, args, made, self._gpu))
        return made


def operator_memory(
    func: Any, args: Sequence[Any], made: Any, gpu: GpuProperties
) -> OperatorMemory:
    """Return what an operator would allocate on CUDA and not on the CPU.

    Args:
        func: the operator, as a dispatch mode gets it.
        args: its arguments; tensors have the shapes of a step on the CPU.
        made: its result on the CPU.
        gpu: where it would run.
    """
    packet = func.overloadpacket
    name = str(packet)
    if packet is CPU_ATTENTION:
        return OperatorMemory(resized=_row_statistics(args[0], made[1], gpu))
    if packet is CPU_ATTENTION_BACKWARD:
        return OperatorMemory(_attention_backward(args[1], gpu))
    if name in REDUCTIONS and args and isinstance(args[0], Tensor):
        return OperatorMemory(_reduction(args, REDUCTIONS[name], gpu))
    if name == LAYER_NORM_BACKWARD:
        return OperatorMemory(_layer_norm_backward(args[1], args[2], gpu))
    return OperatorMemory()


def _is_flash(queries: Tensor, gpu: GpuProperties) -> bool:
    """Return whether the flash kernel computes attention: 16-bit numbers, compute capability 8.0.

    cuDNN's kernel, which torch prefers on some GPUs, is taken to need as much.
    """
    return queries.dtype in HALF and gpu.capability >= FLASH_CAPABILITY


def _row_statistics(queries: Tensor, sums: Tensor, gpu: GpuProperties) -> tuple[int, int] | None:
    """Return the size of the softmax's sums [batch, heads, rows] on the CPU and on CUDA.

    The memory-efficient kernel rounds the rows up. Source: ``_efficient_attention_forward`` in
    ``aten/src/ATen/native/transformers/cuda/attention.cu``.
    """
    if _is_flash(queries, gpu):
        return None
    batch, heads, rows, _ = queries.shape
    return sums.nbytes, batch * heads * _up_to(rows, EFFICIENT_ROWS) * FLOAT_BYTES


def _attention_backward(queries: Tensor, gpu: GpuProperties) -> tuple[int, ...]:
    """Return the workspaces of attention's backward pass; queries are [batch, heads, rows, width].

    Flash: the queries' gradient in fp32, and one number per row (``mha_bwd`` in
    ``flash_attn/flash_api.cpp``). Memory-efficient: the product of output and gradient in fp32, its
    sum over the width, and a contiguous copy of this sum. The kernel computes this sum itself for
    16-bit numbers (``kKernelComputesDelta``), but then accumulates the gradients in fp32
    (``_efficient_attention_backward`` in ``attention_backward.cu``).
    """
    batch, heads, rows, width = queries.shape
    if _is_flash(queries, gpu):
        numbers = batch * heads * _up_to(rows, FLASH_ROWS)
        return numbers * _up_to(width, FLASH_WIDTH) * FLOAT_BYTES, numbers * FLOAT_BYTES
    numbers = batch * heads * rows
    return numbers * width * FLOAT_BYTES, numbers * FLOAT_BYTES, numbers * FLOAT_BYTES


def _reduction(args: Sequence[Any], partial_bytes: int, gpu: GpuProperties) -> tuple[int, ...]:
    tensor = args[0]
    given = args[1] if len(args) > 1 else None
    dimensions = [given] if isinstance(given, int) and not isinstance(given, bool) else given
    listed = dimensions if isinstance(dimensions, list | tuple) else ()
    return reduction_buffers(tensor.shape, tensor.stride(), listed, partial_bytes, gpu)


def _layer_norm_backward(
    inputs: Tensor, normalized: Sequence[int], gpu: GpuProperties
) -> tuple[int, ...]:
    """Return the partial sums of the gradients of weight and bias, which many rows need.

    Source: ``LaunchGammaBetaBackwardCUDAKernel`` in
    ``aten/src/ATen/native/cuda/layer_norm_kernel.cu``.
    """
    width = torch.Size(normalized).numel()
    rows = inputs.numel() // max(1, width)
    if rows <= MANY_ROWS or width // WARP >= gpu.multiprocessors // 2:
        return ()
    blocks = min(MOST_BLOCKS // -(-width // WARP), -(-rows // ROWS_OF_BLOCK))
    size = blocks * width * inputs.element_size()
    return size, size


def _up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
