"""What an operator allocates on CUDA beside its outputs, by the formulas of torch's source.

The formulas take only sizes, so they can be used for a batch for which no step was run.

cuDNN chooses its workspaces at run time, so those of a convolution are not included. In a vision
transformer only the patch embedding has one.
"""

from collections.abc import Callable, Sequence
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
ATTENTION, ATTENTION_BACKWARD = "attention", "attention backward"
REDUCTION, LAYER_NORM = "reduction", "layer norm backward"
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


@dataclass(frozen=True)
class OperatorSizes:
    """The numbers from which the workspaces of an operator follow.

    Attributes:
        rule: what to compute from them, a key of ``RULES``.
        numbers: shapes, strides and other whole numbers; which they are depends on the rule.
    """

    rule: str
    numbers: tuple[tuple[int, ...], ...]

    def memory(self, gpu: GpuProperties) -> OperatorMemory:
        """Return what the operator would allocate on a GPU, and not on the CPU."""
        return RULES[self.rule](gpu, *self.numbers)


class OperatorSizesLog(TorchDispatchMode):
    """Stores the sizes of each operator with workspaces, in the order of ``LiveBytes.timeline``.

    It must be entered before ``LiveBytes``.

    Attributes:
        operators: one entry per operator; ``None`` for an operator without workspaces.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.operators: list[OperatorSizes | None] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if func.namespace != "prim":
            self.operators.append(operator_sizes(func, args, made))
        return made


def operator_sizes(func: Any, args: Sequence[Any], made: Any) -> OperatorSizes | None:
    """Return the sizes from which the workspaces of an operator follow; ``None`` if it has none.

    Args:
        func: the operator, as a dispatch mode gets it.
        args: its arguments; tensors have the shapes of a step on the CPU.
        made: its result on the CPU.
    """
    packet = func.overloadpacket
    name = str(packet)
    if packet is CPU_ATTENTION:
        half, shape = _is_half(args[0]), tuple(args[0].shape)
        return OperatorSizes(ATTENTION, (half, shape, (made[1].nbytes,)))
    if packet is CPU_ATTENTION_BACKWARD:
        return OperatorSizes(ATTENTION_BACKWARD, (_is_half(args[1]), tuple(args[1].shape)))
    if name in REDUCTIONS and args and isinstance(args[0], Tensor):
        shape, stride = tuple(args[0].shape), args[0].stride()
        numbers = shape, stride, _reduced(args), (REDUCTIONS[name],)
        return OperatorSizes(REDUCTION, numbers)
    if name == LAYER_NORM_BACKWARD:
        inputs, width = args[1], torch.Size(args[2]).numel()
        return OperatorSizes(LAYER_NORM, ((inputs.numel(), width, inputs.element_size()),))
    return None


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
    sizes = operator_sizes(func, args, made)
    return OperatorMemory() if sizes is None else sizes.memory(gpu)


def _is_half(tensor: Tensor) -> tuple[int]:
    return (int(tensor.dtype in HALF),)


def _reduced(args: Sequence[Any]) -> tuple[int, ...]:
    """Return the dimensions that a reduction reduces; empty for all."""
    given = args[1] if len(args) > 1 else None
    if isinstance(given, int) and not isinstance(given, bool):
        return (given,)
    return tuple(given) if isinstance(given, list | tuple) else ()


def _is_flash(half: tuple[int, ...], gpu: GpuProperties) -> bool:
    """Return whether the flash kernel computes attention: 16-bit numbers, compute capability 8.0.

    cuDNN's kernel, which torch prefers on some GPUs, is taken to need as much.
    """
    return half == (1,) and gpu.capability >= FLASH_CAPABILITY


def _row_statistics(
    gpu: GpuProperties, half: tuple[int, ...], queries: tuple[int, ...], sums: tuple[int, ...]
) -> OperatorMemory:
    """Return the size of the softmax's sums [batch, heads, rows] on the CPU and on CUDA.

    The memory-efficient kernel rounds the rows up. Source: ``_efficient_attention_forward`` in
    ``aten/src/ATen/native/transformers/cuda/attention.cu``.
    """
    if _is_flash(half, gpu):
        return OperatorMemory()
    batch, heads, rows, _ = queries
    size = batch * heads * _up_to(rows, EFFICIENT_ROWS) * FLOAT_BYTES
    return OperatorMemory(resized=(sums[0], size))


def _attention_backward(
    gpu: GpuProperties, half: tuple[int, ...], queries: tuple[int, ...]
) -> OperatorMemory:
    """Return the workspaces of attention's backward pass; queries are [batch, heads, rows, width].

    Flash: the queries' gradient in fp32, and one number per row (``mha_bwd`` in
    ``flash_attn/flash_api.cpp``). Memory-efficient: the product of output and gradient in fp32, its
    sum over the width, and a contiguous copy of this sum. The kernel computes this sum itself for
    16-bit numbers (``kKernelComputesDelta``), but then accumulates the gradients in fp32
    (``_efficient_attention_backward`` in ``attention_backward.cu``).
    """
    batch, heads, rows, width = queries
    if _is_flash(half, gpu):
        numbers = batch * heads * _up_to(rows, FLASH_ROWS)
        sizes = numbers * _up_to(width, FLASH_WIDTH) * FLOAT_BYTES, numbers * FLOAT_BYTES
        return OperatorMemory(sizes)
    numbers = batch * heads * rows
    product, its_sum = numbers * width * FLOAT_BYTES, numbers * FLOAT_BYTES
    return OperatorMemory((product, its_sum, its_sum))


def _reduction(
    gpu: GpuProperties,
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    reduced: tuple[int, ...],
    partial_bytes: tuple[int, ...],
) -> OperatorMemory:
    return OperatorMemory(reduction_buffers(sizes, strides, reduced, partial_bytes[0], gpu))


def _layer_norm_backward(gpu: GpuProperties, numbers: tuple[int, ...]) -> OperatorMemory:
    """Return the partial sums of the gradients of weight and bias, which many rows need.

    Source: ``LaunchGammaBetaBackwardCUDAKernel`` in
    ``aten/src/ATen/native/cuda/layer_norm_kernel.cu``.
    """
    elements, width, element_bytes = numbers
    rows = elements // max(1, width)
    if rows <= MANY_ROWS or width // WARP >= gpu.multiprocessors // 2:
        return OperatorMemory()
    blocks = min(MOST_BLOCKS // -(-width // WARP), -(-rows // ROWS_OF_BLOCK))
    size = blocks * width * element_bytes
    return OperatorMemory((size, size))


def _up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


RULES: dict[str, Callable[..., OperatorMemory]] = {
    ATTENTION: _row_statistics,
    ATTENTION_BACKWARD: _attention_backward,
    REDUCTION: _reduction,
    LAYER_NORM: _layer_norm_backward,
}
