"""Pack fp32 numbers as codes of few bits into 32-bit words, with stochastic rounding.

A word does not hold neighbouring numbers, but numbers at a fixed distance: word ``j`` of a row of
``c`` words has the numbers ``j``, ``j + c``, ``j + 2 c`` ... So packing and unpacking work on whole
vectors.
"""

import torch
from torch import Tensor

PERIOD = 127  # rows after which noise repeats; a prime, so that it then meets other tokens
# Smallest step as a fraction of the largest magnitude; fp32 can still distinguish such levels.
FINEST = 2.0**-20
SIGN = -(2**31)
SOURCE = "packed_codes.cpp"  # the same on CPUs


def draws(x: Tensor, *, stochastic: bool) -> tuple[Tensor, Tensor]:
    """Return random numbers for the rows, fp32 [n], and for the columns, fp32 [c], of x [n, c].

    The noise of an element is the fractional part of the sum of its row's and its column's number
    (see ``noise``). If these are uniform on [0, 1), the noise is too, and the noises of any two
    elements are independent. So rounding is unbiased, and the errors add up as if each element had
    its own random number, at the cost of one addition per element. Rows that are ``PERIOD`` apart
    have the same noise. If not ``stochastic``, every fractional part is 0.5.
    """
    if not stochastic:
        return x.new_full(x.shape[:1], 0.5), x.new_zeros(x.shape[1])
    rows, columns = torch.rand(PERIOD + x.shape[1], device=x.device).split([PERIOD, x.shape[1]])
    return rows.repeat(-(-x.shape[0] // PERIOD))[: x.shape[0]], columns


def step_of(low: Tensor, width: Tensor, bits: int) -> Tensor:
    """Return the distance between two levels, for the low and the width of ranges of any shape."""
    largest = torch.maximum(low.abs(), (low + width).abs())
    step = torch.maximum(width * (1 / (2**bits - 1)), largest * FINEST)
    return step.clamp_min(torch.finfo(torch.float32).tiny)


def noise(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the noise [n, c]: the fractional parts of the sums of the two results of ``draws``."""
    sums = rows.unsqueeze(1) + columns
    fractions: Tensor = sums - sums.floor()
    return fractions


def codes_of(x: Tensor, inverse: Tensor, added: Tensor, bits: int) -> Tensor:
    """Return int32 codes [n, c]: ``x * inverse + added``, clamped to the codes and truncated."""
    return (x * inverse + added).clamp(0, 2**bits - 1).to(torch.int32)


def to_words(codes: Tensor, bits: int) -> Tensor:
    """Return int32 words [n, c * bits / 32] of codes [n, c]."""
    lowest, *middle, highest = codes.chunk(32 // bits, dim=1)
    half = 2 ** (bits - 1)
    # Subtract half of the codes from the highest code, so that int32 does not overflow. The last
    # line flips the sign bit, which adds this half again.
    words: Tensor = (highest - half) * 2 ** (32 - bits) + lowest
    for index, code in enumerate(middle, start=1):
        words = words + code * 2 ** (bits * index)
    return words ^ SIGN


def from_words(words: Tensor, bits: int) -> list[Tensor]:
    """Return the codes in words [n, c]: one fp32 tensor [n, c] for each code of a word."""
    places, mask = range(0, 32, bits), 2**bits - 1
    return [((words >> place) & mask).to(torch.float32) for place in places]


def periods(x: Tensor) -> list[slice]:
    """Return slices of ``PERIOD`` rows of x [n, ...]; a slice fits into the processor's cache."""
    return [slice(first, first + PERIOD) for first in range(0, x.shape[0], PERIOD)]
