"""Codes of 2 and 4 bits: pack groups of neighbouring numbers, each by its own range; unpack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from bsrbench.methods.parts.kernels import Kernel, operator
from bsrbench.methods.parts.quantise import (
    MANY,
    any_rows,
    codes_of,
    from_words,
    noise,
    periods,
    step_of,
    to_words,
)

WORD_BITS = 32


@dataclass(frozen=True, eq=False)
class GroupCodes:
    """Functions that pack groups of numbers into codes of a fixed width, and unpack them.

    Attributes:
        bits: width of a code.
        kernels: the kernels of ``pack`` and ``unpack``.
        pack: maps groups x, fp32 [n, c], and the two results of ``draws`` for x to words
            [n, c / codes per word], low [n, 1] (the minimum of each group) and step [n, 1].
        unpack: maps words, low and step to fp32 [n, c].
    """

    bits: int
    kernels: tuple[Kernel, Kernel]
    pack: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
    unpack: Callable[[Tensor, Tensor, Tensor], Tensor]

    @property
    def a_word(self) -> int:
        """The number of codes per word; the size of a group is a multiple of it."""
        return WORD_BITS // self.bits


def _pack(x: Tensor, rows: Tensor, columns: Tensor, *, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    low, high = x.amin(1, keepdim=True), x.amax(1, keepdim=True)
    step = step_of(low, high - low, bits)
    inverse = step.reciprocal()
    added = noise(rows, columns) - low * inverse
    return to_words(codes_of(x, inverse, added, bits), bits), low, step


def _unpack(words: Tensor, low: Tensor, step: Tensor, *, bits: int) -> Tensor:
    return torch.cat([code * step + low for code in from_words(words, bits)], dim=1)


def _pack_in_chunks(x: Tensor, rows: Tensor, columns: Tensor, *, bits: int) -> tuple[Tensor, ...]:
    parts = [_pack(x[some], rows[some], columns, bits=bits) for some in periods(x)]
    words, low, step = (torch.cat(chunks) for chunks in zip(*parts, strict=True))
    return words, low, step


def _unpack_in_chunks(words: Tensor, low: Tensor, step: Tensor, *, bits: int) -> Tensor:
    x = _empty(words, bits)
    for rows in periods(x):
        x[rows] = _unpack(words[rows], low[rows], step[rows], bits=bits)
    return x


def _empty(words: Tensor, bits: int) -> Tensor:
    """Return an uninitialised tensor with the shape of the numbers that words hold."""
    return torch.empty(words.shape[0], WORD_BITS // bits * words.shape[1], device=words.device)


def _example() -> tuple[Tensor, ...]:
    return torch.ones(32, 256), torch.zeros(32), torch.zeros(256)


def _shapes(*, bits: int) -> dict[str, Any]:
    a_word = WORD_BITS // bits
    rows, numbers = any_rows(), a_word * Dim("words", min=2, max=MANY // a_word)
    return {"x": {0: rows, 1: numbers}, "rows": {0: rows}, "columns": {0: numbers}}


def _example_words() -> tuple[Tensor, ...]:
    return torch.ones(32, 32, dtype=torch.int32), torch.ones(32, 1), torch.ones(32, 1)


def _shapes_words(*, bits: int) -> dict[str, Any]:
    rows, words = any_rows(), Dim("words", min=2, max=MANY // (WORD_BITS // bits))
    return {"words": {0: rows, 1: words}, "low": {0: rows}, "step": {0: rows}}


def _kernels(bits: int) -> tuple[Kernel, Kernel]:
    """Return the kernels that pack and unpack; this module names them ``PACK2``, ``UNPACK2``..."""

    def kernel(name: str, *functions: Callable[..., Any]) -> Kernel:
        compiled, eager, example, shapes = functions
        return Kernel(
            f"{__name__}:{name}{bits}",
            partial(compiled, bits=bits),
            partial(eager, bits=bits),
            example,
            partial(shapes, bits=bits),
        )

    return (
        kernel("PACK", _pack, _pack_in_chunks, _example, _shapes),
        kernel("UNPACK", _unpack, _unpack_in_chunks, _example_words, _shapes_words),
    )


def _group_codes(bits: int, kernels: tuple[Kernel, Kernel]) -> GroupCodes:
    def fake_pack(x: Tensor, *_: object) -> tuple[Tensor, Tensor, Tensor]:
        shape = x.shape[0], x.shape[1] * bits // WORD_BITS
        words = torch.empty(shape, dtype=torch.int32, device=x.device)
        return words, x.new_empty(x.shape[0], 1), x.new_empty(x.shape[0], 1)

    def fake_unpack(words: Tensor, *_: object) -> Tensor:
        return _empty(words, bits)

    made = "(Tensor x, Tensor rows, Tensor columns) -> (Tensor, Tensor, Tensor)"
    back = "(Tensor words, Tensor low, Tensor step) -> Tensor"
    pack, unpack = kernels
    return GroupCodes(
        bits,
        kernels,
        operator(f"pack{bits}{made}", pack, fake_pack),
        operator(f"unpack{bits}{back}", unpack, fake_unpack),
    )


PACK2, UNPACK2 = _kernels(2)
PACK4, UNPACK4 = _kernels(4)
TWO_BITS = _group_codes(2, (PACK2, UNPACK2))
FOUR_BITS = _group_codes(4, (PACK4, UNPACK4))
