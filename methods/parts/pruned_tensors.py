"""Keep the largest numbers of a tensor, packed, and one bit a number that says where they are.

On a CPU C++ does it, a row a thread. Without a compiler numpy does, a row at a time: its partition
and its bits are vectorised. torch.compile's C++ for the same was slower than numpy.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bsrbench.methods.parts.kernels import Kernel, operator

SOURCE = "pruned_tensors.cpp"  # the same on CPUs
MAGNITUDE = 0x7FFFFFFF  # all bits of an fp32 number but its sign; as integers they sort alike
LARGEST = torch.finfo(torch.float16).max
BITS = 8


def keep_largest(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return the ``kept`` numbers of largest magnitude in each row of x [n, c], and where they are.

    Of equal magnitudes the first are kept.

    Returns:
        fp16 [n, kept] in their order in the row, and bits [n, c / 8 rounded up], lowest first.
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
    """Return fp32 [n, width] with the values where the bits are set, and zeros elsewhere."""
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
    for row, found, where in zip(x.numpy(), values.numpy(), bits.numpy(), strict=True):
        chosen_ones = _largest(row.view(np.int32) & MAGNITUDE, kept)
        np.compress(chosen_ones, row, out=found)
        where[:] = np.packbits(chosen_ones, bitorder="little")
    return values, bits


def _spread_eagerly(values: Tensor, bits: Tensor, width: int) -> Tensor:
    if values.device.type != "cpu":
        return _spread_at_once(values, bits, width)
    x = _empty_spread(values, bits, width)
    for row, found, where in zip(x.zero_().numpy(), values.numpy(), bits.numpy(), strict=True):
        chosen_ones = np.unpackbits(where, count=width, bitorder="little")
        row[np.flatnonzero(chosen_ones.view(np.bool_))] = found
    return x


def _largest(magnitude: NDArray[np.int32], kept: int) -> NDArray[np.bool_]:
    """Return a mask of the largest ``kept``; of those that equal the smallest, the first."""
    place = len(magnitude) - kept
    smallest = np.partition(magnitude, place)[place]
    chosen: NDArray[np.bool_] = magnitude >= smallest
    surplus = int(np.count_nonzero(chosen)) - kept
    if surplus:
        chosen[np.flatnonzero(magnitude == smallest)[-surplus:]] = False
    return chosen


def _keep_at_once(x: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Do the same for all rows in torch's operators, on any device; shapes depend on no number."""
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
