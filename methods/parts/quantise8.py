"""8-bit codes: update the running range of a group of channels, pack by it, and unpack."""

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


def _extremes8(x: Tensor) -> tuple[Tensor, ...]:
    return x.amin(0), x.amax(0)


def _empty_extremes8(x: Tensor) -> tuple[Tensor, ...]:
    return x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _example_extremes8() -> tuple[Tensor, ...]:
    x = torch.linspace(-3, 3, 30 * 67).sin().view(30, 67)
    x[7, 5], x[29, 66] = torch.nan, torch.inf
    return (x,)


EXTREMES8 = Kernel(
    f"{__name__}:EXTREMES8",
    _extremes8,
    _extremes8,
    _empty_extremes8,
    _example_extremes8,
    SOURCE,
    "extremes8",
)
_EXTREMES8 = operator("extremes8(Tensor x) -> (Tensor, Tensor)", EXTREMES8, _empty_extremes8)


def extremes8(x: Tensor) -> tuple[Tensor, ...]:
    """Return the smallest and the largest number of each channel, each [c], NaN if one is NaN.

    Args:
        x: fp32 [n, c] with at least one row.
    """
    extremes: tuple[Tensor, ...] = _EXTREMES8(x)
    return extremes


def _move8(lows: Tensor, highs: Tensor, low: Tensor, width: Tensor) -> tuple[Tensor, ...]:
    now = lows.amin(1)
    now_width = highs.amax(1) - now
    usable = now_width.isfinite()  # then ``now`` is finite too
    moved_low = torch.where(low.isnan(), now, DECAY * low + (1 - DECAY) * now)
    moved_width = torch.where(width.isnan(), now_width, DECAY * width + (1 - DECAY) * now_width)
    low, width = torch.where(usable, moved_low, low), torch.where(usable, moved_width, width)
    step = step_of(low, width, 8)
    inverse = step.reciprocal()
    # A number that is not finite has no code. Its group is read as NaN: gradients would be NaN too.
    read_low = torch.where(usable, low, torch.nan)
    by_channel = [
        constant.unsqueeze(1).expand_as(lows).contiguous()
        for constant in (read_low, step, inverse, -low * inverse)
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
    """Update running ranges (decay 0.9) with the extremes of the channels; return six tensors.

    The first two are the new low and the new width of each range, [g]. The other four are constants
    per channel, [g, k]: low, step (the distance between two 8-bit levels), 1 / step, -low / step.
    If a group has a number that is not finite, its range is not changed, and its codes are read as
    NaN.

    Args:
        lows: smallest number of each channel, fp32 [g, k]: g groups of k channels.
        highs: largest number of each channel, [g, k].
        low: smallest number of each running range, [g]; NaN before the first update.
        width: width of each running range, [g]; NaN before the first update.
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


# The time of the eager versions depends on the number of passes over memory. The functions below
# make as few passes as possible.


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
    """Return x as 8-bit codes in int32 words [n, c / 4]; numbers outside the range are clamped.

    Args:
        x: fp32 [n, c], c a multiple of 4.
        inverse: 1 / step of each channel, [c].
        offset: -low / step of each channel, [c].
        rows: first result of ``draws``, [n].
        columns: second result of ``draws``, [c].
    """
    words: Tensor = _PACK8(x, inverse, offset, rows, columns)
    return words


_UNPACK8 = operator(
    "unpack8(Tensor words, Tensor low, Tensor step) -> Tensor", UNPACK8, _empty_numbers8
)


def unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Return the numbers in words [n, c / 4] as fp32 [n, c]; ``low`` and ``step`` are [c]."""
    x: Tensor = _UNPACK8(words, low, step)
    return x
