"""Keep fp32 numbers as codes of few bits in 32-bit words, rounded stochastically.

A word holds numbers that lie a fixed stride apart, not neighbours: word ``j`` of a row of ``c``
words has numbers ``j``, ``j + c``, ``j + 2 c`` ... So packing and unpacking work on whole vectors.
"""

import torch
from torch import Tensor

PERIOD = 127  # rows after which noise repeats; prime, so that it meets other tokens then
# A level is at least so much of the largest number, for fp32 to tell levels apart.
FINEST = 2.0**-20
SIGN = -(2**31)
SOURCE = "packed_codes.cpp"  # the same on CPUs


def draws(x: Tensor, *, stochastic: bool) -> tuple[Tensor, Tensor]:
    """Return fp32 [n] for the rows of x [n, c] and [c] for its columns, whose sums are the noise.

    The fraction of a sum of two numbers drawn from [0, 1) is as evenly spread as they are, and any
    two such fractions are independent: rounding is unbiased and errors add up as if drawn apart,
    at the price of an addition a number. Rows that lie ``PERIOD`` apart have the same noise. Not
    ``stochastic``, every fraction is a half.
    """
    if not stochastic:
        return x.new_full(x.shape[:1], 0.5), x.new_zeros(x.shape[1])
    rows, columns = torch.rand(PERIOD + x.shape[1], device=x.device).split([PERIOD, x.shape[1]])
    return rows.repeat(-(-x.shape[0] // PERIOD))[: x.shape[0]], columns


def step_of(low: Tensor, width: Tensor, bits: int) -> Tensor:
    """Return the width of a level of ranges of any shape."""
    largest = torch.maximum(low.abs(), (low + width).abs())
    step = torch.maximum(width * (1 / (2**bits - 1)), largest * FINEST)
    return step.clamp_min(torch.finfo(torch.float32).tiny)


def noise(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the fractions [n, c] of the sums of what ``draws`` gave."""
    sums = rows.unsqueeze(1) + columns
    fractions: Tensor = sums - sums.floor()
    return fractions


def codes_of(x: Tensor, inverse: Tensor, added: Tensor, bits: int) -> Tensor:
    """Return int32 codes [n, c]: ``x * inverse + added``, cut off and clamped."""
    return (x * inverse + added).clamp(0, 2**bits - 1).to(torch.int32)


def to_words(codes: Tensor, bits: int) -> Tensor:
    """Return int32 words [n, c * bits / 32] of codes [n, c]."""
    lowest, *middle, highest = codes.chunk(32 // bits, dim=1)
    half = 2 ** (bits - 1)
    # The highest code goes in less a half, so that nothing overflows, and has its sign turned.
    words: Tensor = (highest - half) * 2 ** (32 - bits) + lowest
    for index, code in enumerate(middle, start=1):
        words = words + code * 2 ** (bits * index)
    return words ^ SIGN


def from_words(words: Tensor, bits: int) -> list[Tensor]:
    """Return the codes in words [n, c] as fp32: so many [n, c] as a word has codes."""
    places, mask = range(0, 32, bits), 2**bits - 1
    return [((words >> place) & mask).to(torch.float32) for place in places]


def periods(x: Tensor) -> list[slice]:
    """Return slices over x [n, ...] of a period each, which stay in the processor's cache."""
    return [slice(first, first + PERIOD) for first in range(0, x.shape[0], PERIOD)]
