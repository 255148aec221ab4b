"""Store the largest numbers of each row of a tensor, and one bit per number for their positions.

On a CPU, C++ code does this in parallel over rows. Without a compiler, numpy does it row by row,
with its vectorised partition and bit packing. The C++ code that torch.compile generates for the
same task was slower than numpy.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bsrbench.methods.parts.kernels import Kernel, operator

SOURCE = "pruned_tensors.cpp"  # the same on CPUs
# All bits of an fp32 number except its sign; as integers they sort like magnitudes.
MAGNITUDE = 0x7FFFFFFF
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
    values, bits = KEEP(x.contiguous(), kept)
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
    x: Tensor = SPREAD(values.to(torch.float32).contiguous(), bits.contiguous(), width)
    return x


def _fake_spread(values: Tensor, _: Tensor, width: int) -> Tensor:
    return torch.empty(values.shape[0], width, device=values.device)


_SPREAD = operator(
    "spread(Tensor values, Tensor bits, SymInt width) -> Tensor", _spread, _fake_spread
)


def _bytes(x: Tensor) -> int:
    return -(-x.shape[1] // BITS)


def _empty_kept(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    bits = torch.empty(x.shape[0], _bytes(x), dtype=torch.uint8, device=x.device)
    return x.new_empty(x.shape[0], kept), bits


def _empty_spread(values: Tensor, _: Tensor, width: int) -> Tensor:
    return values.new_empty(values.shape[0], width)


def _keep_eagerly(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    if x.device.type != "cpu":
        return _keep_at_once(x, kept)
    values, bits = _empty_kept(x, kept)
    for row, row_values, row_bits in zip(x.numpy(), values.numpy(), bits.numpy(), strict=True):
        mask = _largest(row.view(np.int32) & MAGNITUDE, kept)
        np.compress(mask, row, out=row_values)
        row_bits[:] = np.packbits(mask, bitorder="little")
    return values, bits


def _spread_eagerly(values: Tensor, bits: Tensor, width: int) -> Tensor:
    if values.device.type != "cpu":
        return _spread_at_once(values, bits, width)
    x = _empty_spread(values, bits, width)
    rows = zip(x.zero_().numpy(), values.numpy(), bits.numpy(), strict=True)
    for row, row_values, row_bits in rows:
        mask = np.unpackbits(row_bits, count=width, bitorder="little")
        row[np.flatnonzero(mask.view(np.bool_))] = row_values
    return x


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
    """Do the same for all rows at once in torch's operators; no shape depends on a value."""
    magnitude = x.view(torch.int32) & MAGNITUDE
    smallest = magnitude.kthvalue(x.shape[1] - kept + 1, dim=1, keepdim=True).values
    larger, equal = magnitude > smallest, magnitude == smallest
    room = kept - larger.sum(1, keepdim=True)
    stays = larger | (equal & (equal.cumsum(1) <= room))
    padded = F.pad(stays, (0, -x.shape[1] % BITS)).unflatten(1, (-1, BITS))
    bits = (padded * _powers(x.device)).sum(-1, dtype=torch.uint8)
    # What does not stay is written to a last column, which is dropped.
    place = torch.where(stays, stays.cumsum(1) - 1, kept)
    values = x.new_empty(x.shape[0], kept + 1).scatter_(1, place, x)
    return values[:, :kept].contiguous(), bits


def _spread_at_once(values: Tensor, bits: Tensor, width: int) -> Tensor:
    where = (bits.unsqueeze(-1) & _powers(values.device)).ne(0).flatten(1)[:, :width]
    place = (where.cumsum(1) - 1).clamp_min(0)
    return torch.where(where, values.gather(1, place), 0.0)


def _powers(device: torch.device) -> Tensor:
    return 1 << torch.arange(BITS, dtype=torch.uint8, device=device)


def _example_kept() -> tuple[Tensor, int]:
    return torch.linspace(-3, 3, 40 * 203).view(203, 40).t().contiguous(), 50


def _example_spread() -> tuple[Tensor, Tensor, int]:
    return (*_keep_at_once(*_example_kept()), 203)


KEEP = Kernel(
    f"{__name__}:KEEP",
    _keep_at_once,
    _keep_eagerly,
    _empty_kept,
    _example_kept,
    SOURCE,
    "keep_largest",
)
SPREAD = Kernel(
    f"{__name__}:SPREAD",
    _spread_at_once,
    _spread_eagerly,
    _empty_spread,
    _example_spread,
    SOURCE,
    "spread",
)
