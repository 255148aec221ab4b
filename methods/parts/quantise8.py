"""8-bit codes: the running range of a group of channels, packing by it, and back."""

import torch
from torch import Tensor

from bsrbench.methods.parts.kernels import Kernel, operator
from bsrbench.methods.parts.quantise import (
    PERIOD,
    SIGN,
    SOURCE,
    codes_of,
    from_words,
    noise,
    periods,
    step_of,
    to_words,
)

DECAY = 0.9  # of running ranges; Mesa's code


def _move8(lows: Tensor, highs: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    now = lows.amin(1)
    now_width = highs.amax(1) - now
    usable = now_width.isfinite()  # then so is the low
    moved_low = torch.where(low.isnan(), now, DECAY * low + (1 - DECAY) * now)
    moved_width = torch.where(width.isnan(), now_width, DECAY * width + (1 - DECAY) * now_width)
    low, width = torch.where(usable, moved_low, low), torch.where(usable, moved_width, width)
    step = step_of(low, width, 8)
    inverse = step.reciprocal()
    # What is not finite has no code: its group is read as NaN, as gradients of it would be.
    read_low = torch.where(usable, low, torch.nan)
    by_channel = [
        one.unsqueeze(1).expand_as(lows).contiguous()
        for one in (read_low, step, inverse, -low * inverse)
    ]
    return low, width, *by_channel


def _example_move8() -> tuple[Tensor, ...]:
    lows = torch.linspace(-2, 1, 64).view(4, 16)
    return lows, lows + 3, torch.linspace(-1, 1, 4), torch.ones(4)


def _empty_move8(lows: Tensor, _: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    by_channel = [torch.empty_like(lows) for _ in range(4)]
    return torch.empty_like(low), torch.empty_like(width), *by_channel


MOVE8 = Kernel(f"{__name__}:MOVE8", _move8, _move8, _empty_move8, _example_move8, SOURCE, "move8")
_MOVE8 = operator(
    "move8(Tensor lows, Tensor highs, Tensor low, Tensor width)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    MOVE8,
    _empty_move8,
)


def move8(lows: Tensor, highs: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    """Move running ranges, decaying by 0.9, towards the extremes of channels; return six tensors.

    They are the new low and width [g]; then, by channel, [g, k] each: the low, the width of a level
    of 8 bits, its inverse, and less the low in such widths. A group with a number that is not
    finite leaves its range as it was, for the next tensors; its own codes are read as NaN.

    Args:
        lows: smallest number of each channel, fp32 [g, k]: g groups of k channels.
        highs: the largest, [g, k].
        low: of the running ranges, [g]; NaN where there is none yet.
        width: of the running ranges, [g].
    """
    moved: tuple[Tensor, ...] = _MOVE8(lows, highs, low, width)
    return moved


def _pack8(x: Tensor, inverse: Tensor, offset: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    return to_words(codes_of(x, inverse, noise(rows, columns) + offset, 8), 8)


def _unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    width = words.shape[1]
    parts = [
        code * step[i * width : (i + 1) * width] + low[i * width : (i + 1) * width]
        for i, code in enumerate(from_words(words, 8))
    ]
    return torch.cat(parts, dim=1)


# Eager, what counts is how often memory is gone over: what follows does it as seldom as can be.


def _pack8_in_chunks(
    x: Tensor, inverse: Tensor, offset: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    words = torch.empty(x.shape[0], x.shape[1] // 4, dtype=torch.int32, device=x.device)
    added = noise(rows[:PERIOD], columns).add_(offset)
    for some in periods(x):
        # Not addcmul, which may round only once where the operators here round twice.
        levels = torch.mul(x[some], inverse).add_(added[: x[some].shape[0]])
        codes = levels.clamp_(0, 255).to(torch.int32)
        lowest, low, high, highest = codes.chunk(4, dim=1)
        joined = torch.add(lowest, low, alpha=2**8, out=words[some]).add_(high, alpha=2**16)
        joined.add_(highest.sub_(128), alpha=2**24).bitwise_xor_(SIGN)
    return words


def _unpack8_in_chunks(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    x = torch.empty(words.shape[0], low.shape[0], device=words.device)
    codes = words.view(torch.uint8).unflatten(1, (-1, 4)).transpose(1, 2)
    for rows in periods(x):
        some = x[rows]
        some.unflatten(1, (4, -1)).copy_(codes[rows])
        torch.addcmul(low, some, step, out=some)
    return x


def _example8() -> tuple[Tensor, ...]:
    x = torch.linspace(-3, 3, 300 * 68).view(300, 68)
    inverse, offset = torch.linspace(40, 60, 68), torch.linspace(100, 130, 68)
    rows = torch.linspace(0, 0.9, PERIOD).repeat(3)[:300]
    return x, inverse, offset, rows, torch.linspace(0, 0.8, 68)


def _example_words8() -> tuple[Tensor, ...]:
    words = torch.arange(300 * 17, dtype=torch.int32).view(300, 17) * 842_501
    return words, torch.linspace(-3, -1, 68), torch.linspace(0.01, 0.02, 68)


def _empty_words8(x: Tensor, *_: object) -> Tensor:
    return torch.empty(x.shape[0], x.shape[1] // 4, dtype=torch.int32, device=x.device)


def _empty_numbers8(words: Tensor, low: Tensor, _: Tensor) -> Tensor:
    return torch.empty(words.shape[0], low.shape[0], device=words.device)


PACK8 = Kernel(
    f"{__name__}:PACK8", _pack8, _pack8_in_chunks, _empty_words8, _example8, SOURCE, "pack8"
)
UNPACK8 = Kernel(
    f"{__name__}:UNPACK8",
    _unpack8,
    _unpack8_in_chunks,
    _empty_numbers8,
    _example_words8,
    SOURCE,
    "unpack8",
)
_PACK8 = operator(
    "pack8(Tensor x, Tensor inverse, Tensor offset, Tensor rows, Tensor columns) -> Tensor",
    PACK8,
    _empty_words8,
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


_UNPACK8 = operator(
    "unpack8(Tensor words, Tensor low, Tensor step) -> Tensor", UNPACK8, _empty_numbers8
)


def unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Return the fp32 [n, c] that words [n, c / 4] stand for; ``step`` is the width of a level."""
    x: Tensor = _UNPACK8(words, low, step)
    return x
