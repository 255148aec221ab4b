"""Keep fp32 numbers as codes of few bits in 32-bit words, rounded stochastically.

A word holds numbers that lie a fixed stride apart, not neighbours: word ``j`` of a row of ``c``
words has numbers ``j``, ``j + c``, ``j + 2 c`` ... So packing and unpacking work on whole vectors.
"""

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from methods.parts.kernels import Kernel

CHUNK = 1 << 16  # numbers worked on at a time when eager: 256 KiB of fp32 and as much noise
STOCHASTIC, NEAREST = 2.0**-32, 0.0  # what int32 noise is multiplied by
MANY = 1 << 30


def _hash(counter: Tensor) -> Tensor:
    """Return int32 numbers that look drawn at random, for int32 counters."""
    mixed = counter * -1640531527
    mixed = (mixed ^ (mixed >> 15)) * 739982445
    return (mixed ^ (mixed >> 13)) * -1749999557


def _to_words(levels: Tensor, rows: Tensor, columns: Tensor, spread: Tensor, bits: int) -> Tensor:
    """Round levels [n, c], in place, to codes and put them into int32 words.

    Args:
        levels: where numbers lie on the grid of 2**bits levels, 0 the lowest.
        rows: int32 [n], drawn at random for each row.
        columns: int32 [c], drawn at random for each column.
        spread: ``STOCHASTIC`` or ``NEAREST``.
        bits: of a code; 4 or 8.
    """
    # int32 sums wrap round, so each is uniform and any two are independent: rounding is unbiased
    # and errors add up as if drawn apart, at the price of one addition a number.
    noise = (rows.unsqueeze(1) + columns).to(torch.float32)
    # The cast cuts off: with a number in [0, 1) added, it rounds.
    levels = levels.add_(noise.mul_(spread).add_(0.5)).clamp_(0, 2**bits - 1)
    *lower, highest = levels.to(torch.int32).chunk(32 // bits, dim=1)
    words: Tensor = (highest - 2 ** (bits - 1)) * 2 ** (
        32 - bits
    )  # the sign is in the highest code
    for index, code in enumerate(lower):
        words.add_(code, alpha=2 ** (bits * index))
    return words


def _from_words(words: Tensor, bits: int) -> list[Tensor]:
    """Return the codes in words [n, c] as fp32: so many [n, c] as a word has codes."""
    count, top = 32 // bits, 2**bits - 1
    codes = []
    for index in range(count - 1):
        masked = words & (top * 2 ** (bits * index))
        codes.append(masked.to(torch.float32).mul_(2.0 ** (-bits * index)))
    highest = (words & -(2 ** (32 - bits))).to(torch.float32).mul_(2.0 ** (bits - 32))
    return [*codes, highest.add_(2.0 ** (bits - 1))]


# ---- 8 bits, one range a channel ------------------------------------------------------------


def _pack8(
    x: Tensor, low: Tensor, inverse: Tensor, rows: Tensor, columns: Tensor, spread: Tensor
) -> Tensor:
    return _to_words((x - low).mul_(inverse), rows, columns, spread, 8)


def _unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    width = words.shape[1]
    parts = [
        code.mul_(step[i * width : (i + 1) * width]).add_(low[i * width : (i + 1) * width])
        for i, code in enumerate(_from_words(words, 8))
    ]
    return torch.cat(parts, dim=1)


def _pack8_in_chunks(
    x: Tensor, low: Tensor, inverse: Tensor, rows: Tensor, columns: Tensor, spread: Tensor
) -> Tensor:
    words = torch.empty(x.shape[0], x.shape[1] // 4, dtype=torch.int32, device=x.device)
    for some in _chunks(x):
        words[some] = _pack8(x[some], low, inverse, rows[some], columns, spread)
    return words


def _unpack8_in_chunks(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    x = torch.empty(words.shape[0], low.shape[0], device=words.device)
    for rows in _chunks(x):
        codes = words[rows].view(torch.uint8).unflatten(1, (-1, 4)).transpose(1, 2).flatten(1)
        codes[:, -words.shape[1] :].bitwise_xor_(128)  # the highest is stored less 128
        torch.mul(codes, step, out=x[rows]).add_(low)
    return x


def _chunks(x: Tensor) -> list[slice]:
    taken = max(1, CHUNK // max(1, x.shape[1]))
    return [slice(first, first + taken) for first in range(0, x.shape[0], taken)]


def _rows() -> Any:
    return Dim("rows", min=2, max=MANY)


def _example8() -> tuple[Tensor, ...]:
    # One tensor for two arguments would be exported as one argument.
    rows, columns = torch.zeros(32, dtype=torch.int32), torch.zeros(64, dtype=torch.int32)
    return torch.ones(32, 64), torch.zeros(64), torch.ones(64), rows, columns, torch.ones(())


def _shapes8() -> dict[str, Any]:
    rows, channels = _rows(), 4 * Dim("words", min=2, max=MANY // 4)
    return {
        "x": {0: rows, 1: channels},
        "low": {0: channels},
        "inverse": {0: channels},
        "rows": {0: rows},
        "columns": {0: channels},
        "spread": {},
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


@torch.library.custom_op("bsrbench::pack8", mutates_args=())
def pack8(
    x: Tensor, low: Tensor, inverse: Tensor, rows: Tensor, columns: Tensor, spread: Tensor
) -> Tensor:
    """Return x as 8-bit codes in int32 words [n, c / 4].

    Args:
        x: fp32 [n, c], c a multiple of 4.
        low: smallest value of each channel's range, [c]; what lies below is clamped.
        inverse: one over the width of a level, [c].
        rows: int32 [n], drawn at random for each row.
        columns: int32 [c], drawn at random for each column.
        spread: ``STOCHASTIC`` or ``NEAREST``.
    """
    words: Tensor = PACK8(x, low, inverse, rows, columns, spread)
    return words


@pack8.register_fake
def _(x: Tensor, *_: object) -> Tensor:
    return torch.empty(x.shape[0], x.shape[1] // 4, dtype=torch.int32, device=x.device)


@torch.library.custom_op("bsrbench::unpack8", mutates_args=())
def unpack8(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Return the fp32 [n, c] that words [n, c / 4] stand for; ``step`` is the width of a level."""
    x: Tensor = UNPACK8(words, low, step)
    return x


@unpack8.register_fake
def _(words: Tensor, low: Tensor, step: Tensor) -> Tensor:  # noqa: ARG001 - the same arguments
    return torch.empty(words.shape[0], low.shape[0], device=words.device)


# ---- 4 bits, one range a group of neighbours -------------------------------------------------


def _pack4(
    x: Tensor, rows: Tensor, columns: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    step = ((high - low) * (1 / 15)).clamp_min(torch.finfo(torch.float32).tiny)
    return _to_words((x - low).mul_(step.reciprocal()), rows, columns, spread, 4), low, step


def _unpack4(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    return torch.cat([code.mul_(step).add_(low) for code in _from_words(words, 4)], dim=1)


def _pack4_in_chunks(
    x: Tensor, rows: Tensor, columns: Tensor, spread: Tensor
) -> tuple[Tensor, ...]:
    parts = [_pack4(x[some], rows[some], columns, spread) for some in _chunks(x)]
    words, low, step = (torch.cat(found) for found in zip(*parts, strict=True))
    return words, low, step


def _unpack4_in_chunks(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    x = torch.empty(words.shape[0], 8 * words.shape[1], device=words.device)
    for rows in _chunks(x):
        x[rows] = _unpack4(words[rows], low[rows], step[rows])
    return x


def _example4() -> tuple[Tensor, ...]:
    rows, columns = torch.zeros(32, dtype=torch.int32), torch.zeros(256, dtype=torch.int32)
    return torch.ones(32, 256), rows, columns, torch.ones(())


def _shapes4() -> dict[str, Any]:
    rows, numbers = _rows(), 8 * Dim("words", min=2, max=MANY // 8)
    return {
        "x": {0: rows, 1: numbers},
        "rows": {0: rows},
        "columns": {0: numbers},
        "spread": {},
    }


def _example_words4() -> tuple[Tensor, ...]:
    return torch.ones(32, 32, dtype=torch.int32), torch.ones(32, 1), torch.ones(32, 1)


def _shapes_words4() -> dict[str, Any]:
    rows, words = _rows(), Dim("words", min=2, max=MANY // 8)
    return {"words": {0: rows, 1: words}, "low": {0: rows}, "step": {0: rows}}


PACK4 = Kernel(f"{__name__}:PACK4", _pack4, _pack4_in_chunks, _example4, _shapes4)
UNPACK4 = Kernel(
    f"{__name__}:UNPACK4", _unpack4, _unpack4_in_chunks, _example_words4, _shapes_words4
)


@torch.library.custom_op("bsrbench::pack4", mutates_args=())
def pack4(
    x: Tensor, rows: Tensor, columns: Tensor, spread: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return groups x [n, c], fp32, as 4-bit codes in words [n, c / 8], their low and step."""
    words, low, step = PACK4(x, rows, columns, spread)
    return words, low, step


@pack4.register_fake
def _(x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
    words = torch.empty(x.shape[0], x.shape[1] // 8, dtype=torch.int32, device=x.device)
    return words, x.new_empty(x.shape[0], 1), x.new_empty(x.shape[0], 1)


@torch.library.custom_op("bsrbench::unpack4", mutates_args=())
def unpack4(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    """Return the fp32 groups [n, c] that words [n, c / 8] stand for."""
    x: Tensor = UNPACK4(words, low, step)
    return x


@unpack4.register_fake
def _(words: Tensor, low: Tensor, step: Tensor) -> Tensor:  # noqa: ARG001 - the same arguments
    return torch.empty(words.shape[0], 8 * words.shape[1], device=words.device)


def draws(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return random int32 [n] for the rows of x [n, c] and [c] for its columns.

    Hashes of counters, which torch's generator seeds at every call.
    """
    lowest, highest = -(1 << 31), (1 << 31) - 1
    seed = torch.randint(lowest, highest, (), dtype=torch.int32, device=x.device)
    mixed = _hash(torch.arange(sum(x.shape), dtype=torch.int32, device=x.device) + seed)
    return mixed[: x.shape[0]], mixed[x.shape[0] :]
