"""4-bit codes: packing groups of neighbours, each by its own range, and back."""

from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from methods.parts.kernels import Kernel, operator
from methods.parts.quantise import (
    MANY,
    any_rows,
    codes_of,
    from_words,
    noise,
    periods,
    step_of,
    to_words,
)


def _pack4(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, step = _range4(x)
    inverse = step.reciprocal()
    added = noise(rows, columns) - low * inverse
    return to_words(codes_of(x, inverse, added, 4), 4), low, step


def _range4(x: Tensor) -> tuple[Tensor, Tensor]:
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    return low, step_of(low, high - low, 4)


def _unpack4(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    return torch.cat([code * step + low for code in from_words(words, 4)], dim=1)


def _pack4_in_chunks(x: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    parts = [_pack4(x[some], rows[some], columns) for some in periods(x)]
    words, low, step = (torch.cat(found) for found in zip(*parts, strict=True))
    return words, low, step


def _unpack4_in_chunks(words: Tensor, low: Tensor, step: Tensor) -> Tensor:
    x = torch.empty(words.shape[0], 8 * words.shape[1], device=words.device)
    for rows in periods(x):
        x[rows] = _unpack4(words[rows], low[rows], step[rows])
    return x


def _example4() -> tuple[Tensor, ...]:
    return torch.ones(32, 256), torch.zeros(32), torch.zeros(256)


def _shapes4() -> dict[str, Any]:
    rows, numbers = any_rows(), 8 * Dim("words", min=2, max=MANY // 8)
    return {"x": {0: rows, 1: numbers}, "rows": {0: rows}, "columns": {0: numbers}}


def _example_words4() -> tuple[Tensor, ...]:
    return torch.ones(32, 32, dtype=torch.int32), torch.ones(32, 1), torch.ones(32, 1)


def _shapes_words4() -> dict[str, Any]:
    rows, words = any_rows(), Dim("words", min=2, max=MANY // 8)
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
