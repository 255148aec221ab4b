"""The buffer that torch's CUDA reductions allocate when several thread blocks share one output.

Source: ``setReduceConfig``, ``ReduceConfig.global_memory_size`` and ``semaphore_size`` in
``aten/src/ATen/native/cuda/Reduce.cuh`` of torch 2.9 to 2.14.

The sum of a bias's gradient is such a reduction. Its buffer can be larger than its input: its size
is multiplied by the threads of a block row, although ``num_outputs`` already includes them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from bsrbench.harness.devices.gpu_properties import GpuProperties

WARP = 32
MOST_THREADS = 512  # mnt_wrapper<T>::MAX_NUM_THREADS, for types that are not double complex
VECTOR = 4  # largest number of outputs or inputs that a thread loads at once
LONG_ROW = 128  # inputs of a row from which on a thread loads several
LEAST_VALUES, MOST_VALUES = 16, 256  # per thread, if the input is split across blocks
SEMAPHORE_BYTES = 4


@dataclass(frozen=True)
class Reduction:
    """A reduction as the kernel sees it, after it has joined dimensions.

    Attributes:
        outputs: number of outputs.
        inputs: number of inputs of each output.
        along_fastest: whether the fastest dimension is reduced.
        contiguous: whether the stride of this dimension is 1.
        fastest_size: its size.
        reduced_dimensions: number of dimensions that are reduced.
    """

    outputs: int
    inputs: int
    along_fastest: bool
    contiguous: bool
    fastest_size: int
    reduced_dimensions: int


def reduction_buffers(
    sizes: Sequence[int],
    strides: Sequence[int],
    reduced: Sequence[int],
    element_bytes: int,
    gpu: GpuProperties,
) -> tuple[int, ...]:
    """Return the sizes of the buffers of a reduction; empty if it needs none.

    Args:
        sizes: the input's size in each dimension.
        strides: the input's strides, in elements.
        reduced: the dimensions that are reduced; empty for all.
        element_bytes: bytes of one partial result, such as 4 for the sum of fp32 and bf16.
        gpu: where it runs.
    """
    reduction = _joined(sizes, strides, reduced)
    if reduction is None:
        return ()
    return _buffers(reduction, element_bytes, gpu)


def _joined(
    sizes: Sequence[int], strides: Sequence[int], reduced: Sequence[int]
) -> Reduction | None:
    """Return the reduction; ``None`` if there is nothing to reduce."""
    count = len(sizes)
    inside = {dim % count for dim in reduced} if reduced else set(range(count))
    within = _dimensions([(strides[d], sizes[d]) for d in range(count) if d in inside])
    kept = _dimensions([(strides[d], sizes[d]) for d in range(count) if d not in inside])
    inputs, outputs = _elements(within), _elements(kept)
    if inputs <= 1 or outputs == 0:
        return None
    along_fastest = not kept or within[0][0] < kept[0][0]
    stride, size = (within if along_fastest else kept)[0]
    return Reduction(outputs, inputs, along_fastest, stride == 1, size, len(within))


def _dimensions(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return (stride, size) of each dimension, fastest first; neighbours in memory are joined."""
    joined: list[tuple[int, int]] = []
    for stride, size in sorted(pair for pair in pairs if pair[1] != 1):
        if joined and joined[-1][0] * joined[-1][1] == stride:
            joined[-1] = joined[-1][0], joined[-1][1] * size
        else:
            joined.append((stride, size))
    return joined


def _elements(dimensions: list[tuple[int, int]]) -> int:
    total = 1
    for _, size in dimensions:
        total *= size
    return total


def _buffers(reduction: Reduction, element_bytes: int, gpu: GpuProperties) -> tuple[int, ...]:
    """Return the sizes of the buffer of partial results and of the semaphores."""
    across, down, vector = _block(reduction)
    step_input, step_output = (across, 1) if reduction.along_fastest else (1, across)
    values = _up(reduction.inputs, step_input)
    if values < min(down * 16, MOST_VALUES):  # the rows of a block have outputs of their own
        return ()
    values = _up(reduction.inputs, step_input * down)
    blocks = gpu.multiprocessors * (gpu.threads_per_multiprocessor // (across * down))
    grid = _up(reduction.outputs // vector, step_output)
    if values < MOST_VALUES or grid > blocks:
        return ()
    sharing = max(_up(blocks, grid), _up(values, MOST_VALUES))
    sharing = min(sharing, _up(values, LEAST_VALUES))
    if sharing <= 1:
        return ()
    size = element_bytes * reduction.outputs * sharing
    if not reduction.along_fastest:
        size *= across * vector
    return size, SEMAPHORE_BYTES * grid


def _block(reduction: Reduction) -> tuple[int, int, int]:
    """Return the threads across and down a block, and the outputs of each thread."""
    vector = 1
    width, height = (
        (reduction.inputs, reduction.outputs)
        if reduction.along_fastest
        else (reduction.outputs, reduction.inputs)
    )
    if reduction.contiguous and not reduction.along_fastest:
        vector = next(v for v in (VECTOR, 2, 1) if reduction.fastest_size % v == 0)
        width //= vector
    elif reduction.contiguous and width >= LONG_ROW and reduction.reduced_dimensions == 1:
        width //= VECTOR
    most = MOST_THREADS // vector
    wide, high = (min(most, 1 << (max(1, size).bit_length() - 1)) for size in (width, height))
    across = min(wide, WARP)
    down = min(high, most // across)
    return min(wide, most // down), down, vector


def _up(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
