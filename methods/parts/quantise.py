"""Keep fp32 numbers as codes of few bits in 32-bit words, rounded stochastically.

A word holds numbers that lie a fixed stride apart, not neighbours: word ``j`` of a row of ``c``
words has numbers ``j``, ``j + c``, ``j + 2 c`` ... So packing and unpacking work on whole vectors.
"""

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from methods.parts.kernels import Kernel, operator

PERIOD = 127  # rows after which noise repeats; prime, so that it meets other tokens then
# A level is at least so much of the largest number, for fp32 to tell levels apart.
FINEST = 2.0**-20
SIGN = -(2**31)
DECAY = 0.9  # of running ranges; Mesa's code
MANY = 1 << 30


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


def _noise(rows: Tensor, columns: Tensor) -> Tensor:
    sums = rows.unsqueeze(1) + columns
    fractions: Tensor = sums - sums.floor()
    return fractions


def _codes(x: Tensor, inverse: Tensor, added: Tensor, bits: int) -> Tensor:
    """Return int32 codes [n, c]: ``x * inverse + added``, cut off and clamped."""
    return (x * inverse + added).clamp(0, 2**bits - 1).to(torch.int32)


def _to_words(codes: Tensor, bits: int) -> Tensor:
    """Return int32 words [n, c * bits / 32] of codes [n, c]."""
    lowest, *middle, highest = codes.chunk(32 // bits, dim=1)
    half = 2 ** (bits - 1)
    # The highest code goes in less a half, so that nothing overflows, and has its sign turned.
    words: Tensor = (highest - half) * 2 ** (32 - bits) + lowest
    for index, code in enumerate(middle, start=1):
        words = words + code * 2 ** (bits * index)
    return words ^ SIGN


def _from_words(words: Tensor, bits: int) -> list[Tensor]:
    """Return the codes in words [n, c] as fp32: so many [n, c] as a word has codes."""
    places, mask = range(0, 32, bits), 2**bits - 1
    return [((words >> place) & mask).to(torch.float32) for place in places]


def _chunks(x: Tensor) -> list[slice]:
    """Return slices over x [n, ...] of a period each, which stay in the processor's cache."""
    return [slice(first, first + PERIOD) for first in range(0, x.shape[0], PERIOD)]


# ---- the running range of a group of channels --------------------------------------------------


def _move8(lows: Tensor, highs: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    now = lows.amin(1)
    now_width = highs.amax(1) - now
    low = torch.where(low.isnan(), now, DECAY * low + (1 - DECAY) * now)
    width = torch.where(width.isnan(), now_width, DECAY * width + (1 - DECAY) * now_width)
    step = step_of(low, width, 8)
    inverse = step.reciprocal()
    by_channel = [
        one.unsqueeze(1).expand_as(lows).contiguous()
        for one in (low, step, inverse, -low * inverse)
    ]
    return low, width, *by_channel


def _example_move8() -> tuple[Tensor, ...]:
    return torch.zeros(4, 16), torch.ones(4, 16), torch.zeros(4), torch.ones(4)


def _shapes_move8() -> dict[str, Any]:
    groups, channels = Dim("groups", max=MANY), Dim("channels", max=MANY)
    both = {0: groups, 1: channels}
    return {"lows": both, "highs": both, "low": {0: groups}, "width": {0: groups}}


MOVE8 = Kernel(f"{__name__}:MOVE8", _move8, _move8, _example_move8, _shapes_move8)


def _fake_move8(lows: Tensor, _: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    by_channel = [torch.empty_like(lows) for _ in range(4)]
    return torch.empty_like(low), torch.empty_like(width), *by_channel


_MOVE8 = operator(
    "move8(Tensor lows, Tensor highs, Tensor low, Tensor width)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    MOVE8,
    _fake_move8,
)


def move8(lows: Tensor, highs: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    """Move running ranges, decaying by 0.9, towards the extremes of channels; return six tensors.

    They are the new low and width [g]; then, by channel, [g, k] each: the low, the width of a level
    of 8 bits, its inverse, and less the low in such widths.

    Args:
        lows: smallest number of each channel, fp32 [g, k]: g groups of k channels.
        highs: the largest, [g, k].
        low: of the running ranges, [g]; NaN where there is none yet.
        width: of the running ranges, [g].
    """
    moved: tuple[Tensor, ...] = _MOVE8(lows, highs, low, width)
    return moved


# ---- 8 bits, one range a channel ------------------------------------------------------------


def _pack8(x: Tensor, inverse: Tensor, offset: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return _to_words(_codes(x, inverse, _noise(rows, columns) + offset, 8), 8)


def _unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    width = words.shape[1]
    parts = [
        code * step[i * width : (i + 1) * width] + low[i * width : (i + 1) * width]
        for i, code in enumerate(_from_words(words, 8))
    ]
    return torch.cat(parts, dim=1)


# Eager, what counts is how often memory is gone over: what follows does it as seldom as can be.


def _pack8_in_chunks(
    x: Tensor, inverse: Tensor, offset: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    words = torch.empty(x.shape[0], x.shape[1] // 4, dtype=torch.int32, device=x.device)
    added = _noise(rows[:PERIOD], columns).add_(offset)
    for some in _chunks(x):
        levels = torch.addcmul(added[: x[some].shape[0]], x[some], inverse)
        codes = levels.clamp_(0, 255).to(torch.int32)
        lowest, low, high, highest = codes.chunk(4, dim=1)
        joined = torch.add(lowest, low, alpha=2**8, out=words[some]).add_(high, alpha=2**16)
        joined.add_(highest.sub_(128), alpha=2**24).bitwise_xor_(SIGN)
    return words


def _unpack8_in_chunks(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    x = torch.empty(words.shape[0], low.shape[0], device=words.device)
    codes = words.view(torch.uint8).unflatten(1, (-1, 4)).transpose(1, 2)
    for rows in _chunks(x):
        some = x[rows]
        some.unflatten(1, (4, -1)).copy_(codes[rows])
        torch.addcmul(low, some, step, out=some)
    return x


def _rows() -> Any:
    return Dim("rows", min=2, max=MANY)


def _example8() -> tuple[Tensor, ...]:
    # One tensor for two arguments would be exported as one argument.
    return torch.ones(32, 64), torch.ones(64), torch.zeros(64), torch.zeros(32), torch.zeros(64)


def _shapes8() -> dict[str, Any]:
    rows, channels = _rows(), 4 * Dim("words", min=2, max=MANY // 4)
    return {
        "x": {0: rows, 1: channels},
        "inverse": {0: channels},
        "offset": {0: channels},
        "rows": {0: rows},
        "columns": {0: channels},
    }


def _example_words8() -> tuple[Tensor, ...]:
    return torch.ones(32, 16, dtype=torch.int32), torch.ones(64), torch.ones(64)


def _shapes_words8() -> dict[str, Any]:
    words = Dim("words", min=2, max=MANY // 4)
    return {"words": {0: _rows(), 1: words}, "low": {0: 4 * words}, "step": {0: 4 * words}}


PACK8 = Kernel(f"{__name__}:PACK8", _pack8, _pack8_in_chunks, _example8, _shapes8)
UNPACK8 = Kernel(
    f"{__name__}:UNPACK8", _unpack8, _unpack8_in_chunks, _example_words8, _shapes_words8
)


def _fake_pack8(x: Tensor, *_: object) -> Tensor:
    return torch.empty(x.shape[0], x.shape[1] // 4, dtype=torch.int32, device=x.device)


_PACK8 = operator(
    "pack8(Tensor x, Tensor inverse, Tensor offset, Tensor rows, Tensor columns) -> Tensor",
    PACK8,
    _fake_pack8,
)


def pack8(x: Tensor, inverse: Tensor, offset: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return x as 8-bit codes in int32 words [n, c / 4]; what has no code is clamped.

    Args:
        x: fp32 [n, c], c a multiple of 4.
        inverse: one over the width of a level, [c].
        offset: less the lowest level of each channel in such widths, [c].
        rows: what ``draws`` gave, [n].
        columns: what ``draws`` gave, [c].
    """
    words: Tensor = _PACK8(x, inverse, offset, rows, columns)
    return words


def _fake_unpack8(words: Tensor, low: Tensor, _: Tensor) -> Tensor:
    return torch.empty(words.shape[0], low.shape[0], device=words.device)


_UNPACK8 = operator(
    "unpack8(Tensor words, Tensor low, Tensor step) -> Tensor", UNPACK8, _fake_unpack8
)


def unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Return the fp32 [n, c] that words [n, c / 4] stand for; ``step`` is the width of a level."""
    x: Tensor = _UNPACK8(words, low, step)
    return x


# ---- 4 bits, one range a group of neighbours -------------------------------------------------


def _pack4(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, step = _range4(x)
    inverse = step.reciprocal()
    added = _noise(rows, columns) - low * inverse
    return _to_words(_codes(x, inverse, added, 4), 4), low, step


def _range4(x: Tensor) -> tuple[Tensor, Tensor]:
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    return low, step_of(low, high - low, 4)


def _unpack4(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    return torch.cat([code * step + low for code in _from_words(words, 4)], dim=1)


def _pack4_in_chunks(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    parts = [_pack4(x[some], rows[some], columns) for some in _chunks(x)]
    words, low, step = (torch.cat(found) for found in zip(*parts, strict=True))
    return words, low, step


def _unpack4_in_chunks(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    x = torch.empty(words.shape[0], 8 * words.shape[1], device=words.device)
    for rows in _chunks(x):
        x[rows] = _unpack4(words[rows], low[rows], step[rows])
    return x


def _example4() -> tuple[Tensor, ...]:
    return torch.ones(32, 256), torch.zeros(32), torch.zeros(256)


def _shapes4() -> dict[str, Any]:
    rows, numbers = _rows(), 8 * Dim("words", min=2, max=MANY // 8)
    return {"x": {0: rows, 1: numbers}, "rows": {0: rows}, "columns": {0: numbers}}


def _example_words4() -> tuple[Tensor, ...]:
    return torch.ones(32, 32, dtype=torch.int32), torch.ones(32, 1), torch.ones(32, 1)


def _shapes_words4() -> dict[str, Any]:
    rows, words = _rows(), Dim("words", min=2, max=MANY // 8)
    return {"words": {0: rows, 1: words}, "low": {0: rows}, "step": {0: rows}}


PACK4 = Kernel(f"{__name__}:PACK4", _pack4, _pack4_in_chunks, _example4, _shapes4)
UNPACK4 = Kernel(
    f"{__name__}:UNPACK4", _unpack4, _unpack4_in_chunks, _example_words4, _shapes_words4
)


def _fake_pack4(x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    words = torch.empty(x.shape[0], x.shape[1] // 8, dtype=torch.int32, device=x.device)
    return words, x.new_empty(x.shape[0], 1), x.new_empty(x.shape[0], 1)


_PACK4 = operator(
    "pack4(Tensor x, Tensor rows, Tensor columns) -> (Tensor, Tensor, Tensor)", PACK4, _fake_pack4
)


def pack4(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return groups x [n, c], fp32, as 4-bit codes in words [n, c / 8], their low and step."""
    words, low, step = _PACK4(x, rows, columns)
    return words, low, step


def _fake_unpack4(words: Tensor, *_: object) -> Tensor:
    return torch.empty(words.shape[0], 8 * words.shape[1], device=words.device)


_UNPACK4 = operator(
    "unpack4(Tensor words, Tensor low, Tensor step) -> Tensor", UNPACK4, _fake_unpack4
)


def unpack4(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Return the fp32 groups [n, c] that words [n, c / 8] stand for."""
    x: Tensor = _UNPACK4(words, low, step)
    return x
