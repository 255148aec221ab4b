"""Store the largest numbers of each row of a tensor, and one bit per number for their positions.

On a CPU, C++ code does this in parallel over rows. Without a compiler, numpy does it row by row,
with its vectorised partition and bit packing. The C++ code that torch.compile generates for the
same task was slower than numpy.
"""

from ctypes import c_int, c_int64, c_void_p

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bsrbench.methods.parts.kernels import Native, chosen, operator

NATIVE = Native(f"{__name__}:NATIVE", "pruned_tensors.cpp")
MAGNITUDE = (
    0x7FFFFFFF  # all bits of an fp32 number except its sign; as integers they sort like magnitudes
)
LARGEST = torch.finfo(torch.float16).max
BITS = 8


def keep_largest(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return the ``kept`` numbers of largest magnitude in each row of x [n, c], and positions.

    If magnitudes are equal, the first numbers are kept.

    Returns:
        The numbers, fp16 [n, kept], in their order in the row; and the positions as bits, uint8
        [n, c / 8 rounded up], lowest bit first.
    """
    values, bits = _KEEP_LARGEST(x, kept)
    return values, bits


def _keep_largest(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    keep = _keep_on_cpu if x.device.type == "cpu" else _keep_at_once
    values, bits = keep(x.contiguous(), kept)
    return values.clamp_(-LARGEST, LARGEST).to(torch.float16), bits


def _fake_keep_largest(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    half = torch.empty(x.shape[0], kept, dtype=torch.float16, device=x.device)
    return half, torch.empty(x.shape[0], _bytes(x), dtype=torch.uint8, device=x.device)


_KEEP_LARGEST = operator(
    "keep_largest(Tensor x, SymInt kept) -> (Tensor, Tensor)", _keep_largest, _fake_keep_largest
)


def spread(values: Tensor, bits: Tensor, width: int) -> Tensor:
    """Return fp32 [n, width]: the values at the positions of the set bits, zeros elsewhere."""
    x: Tensor = _SPREAD(values, bits, width)
    return x


def _spread(values: Tensor, bits: Tensor, width: int) -> Tensor:
    put = _spread_on_cpu if values.device.type == "cpu" else _spread_at_once
    return put(values.to(torch.float32).contiguous(), bits.contiguous(), width)


def _fake_spread(values: Tensor, _: Tensor, width: int) -> Tensor:
    return torch.empty(values.shape[0], width, device=values.device)


_SPREAD = operator(
    "spread(Tensor values, Tensor bits, SymInt width) -> Tensor", _spread, _fake_spread
)


def _bytes(x: Tensor) -> int:
    return -(-x.shape[1] // BITS)


def _keep_on_cpu(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    values = torch.empty(x.shape[0], kept)
    bits = torch.empty(x.shape[0], _bytes(x), dtype=torch.uint8)
    native = chosen(NATIVE, "cpu").run
    if native is not None:
        sizes = (c_int64(number) for number in (*x.shape, kept))
        native.keep_largest(_at(x), *sizes, _at(values), _at(bits), c_int(torch.get_num_threads()))
        return values, bits
    for row, row_values, row_bits in zip(x.numpy(), values.numpy(), bits.numpy(), strict=True):
        mask = _largest(row.view(np.int32) & MAGNITUDE, kept)
        np.compress(mask, row, out=row_values)
        row_bits[:] = np.packbits(mask, bitorder="little")
    return values, bits


def _spread_on_cpu(values: Tensor, bits: Tensor, width: int) -> Tensor:
    x = torch.empty(values.shape[0], width)
    native = chosen(NATIVE, "cpu").run
    if native is not None:
        sizes = (c_int64(number) for number in (*x.shape, values.shape[1]))
        native.spread(_at(values), _at(bits), *sizes, _at(x), c_int(torch.get_num_threads()))
        return x
    rows = zip(x.zero_().numpy(), values.numpy(), bits.numpy(), strict=True)
    for row, row_values, row_bits in rows:
        mask = np.unpackbits(row_bits, count=width, bitorder="little")
        row[np.flatnonzero(mask.view(np.bool_))] = row_values
    return x


def _at(tensor: Tensor) -> c_void_p:
    return c_void_p(tensor.data_ptr())


def _largest(magnitude: NDArray[np.int32], kept: int) -> NDArray[np.bool_]:
    """Return a mask of the ``kept`` largest; of numbers equal to the smallest, the first."""
    place = len(magnitude) - kept
    smallest = np.partition(magnitude, place)[place]
    chosen: NDArray[np.bool_] = magnitude >= smallest
    surplus = int(np.count_nonzero(chosen)) - kept
    if surplus:
        chosen[np.flatnonzero(magnitude == smallest)[-surplus:]] = False
    return chosen


def _keep_at_once(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Do the same as ``_keep_on_cpu`` for all rows at once, with torch's operators."""
    magnitude = x.view(torch.int32) & MAGNITUDE
    smallest = magnitude.kthvalue(x.shape[1] - kept + 1, dim=1, keepdim=True).values
    larger, equal = magnitude > smallest, magnitude == smallest
    room = kept - larger.sum(1, keepdim=True)
    stays = larger | (equal & (equal.cumsum(1) <= room))
    padded = F.pad(stays, (0, -x.shape[1] % BITS)).unflatten(1, (-1, BITS))
    bits = (padded * _powers(x.device)).sum(-1, dtype=torch.uint8)
    return x.masked_select(stays).view(x.shape[0], kept), bits


def _spread_at_once(values: Tensor, bits: Tensor, width: int) -> Tensor:
    where = (bits.unsqueeze(-1) & _powers(values.device)).ne(0).flatten(1)[:, :width]
    x = values.new_zeros(values.shape[0], width)
    return x.masked_scatter_(where, values)


def _powers(device: torch.device) -> Tensor:
    return 1 << torch.arange(BITS, dtype=torch.uint8, device=device)
