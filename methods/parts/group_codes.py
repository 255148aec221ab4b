"""Codes of 2 and 4 bits: pack groups of neighbouring numbers, each by its own range; unpack."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bsrbench.methods.parts.kernels import Kernel, operator
from bsrbench.methods.parts.quantise import (
    SOURCE,
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
    x = _empty_numbers(words, bits=bits)
    for rows in periods(x):
        x[rows] = _unpack(words[rows], low[rows], step[rows], bits=bits)
    return x


def _example() -> tuple[Tensor, ...]:
    x = torch.linspace(-3, 3, 300 * 256).view(256, 300).t().contiguous()
    return x, torch.linspace(0, 0.9, 300), torch.linspace(0, 0.8, 256)


def _example_words() -> tuple[Tensor, ...]:
    words = torch.arange(300 * 16, dtype=torch.int32).view(300, 16) * 894_783
    return words, torch.linspace(-3, -1, 300).view(-1, 1), torch.linspace(0.1, 0.9, 300).view(-1, 1)


def _empty_words(x: Tensor, *_: object, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    shape = x.shape[0], x.shape[1] * bits // WORD_BITS
    words = torch.empty(shape, dtype=torch.int32, device=x.device)
    return words, x.new_empty(x.shape[0], 1), x.new_empty(x.shape[0], 1)


def _empty_numbers(words: Tensor, *_: object, bits: int) -> Tensor:
    return torch.empty(words.shape[0], WORD_BITS // bits * words.shape[1], device=words.device)


def _kernels(bits: int) -> tuple[Kernel, Kernel]:
    """Return the kernels that pack and unpack; this module names them ``PACK2``, ``UNPACK2``..."""

    def kernel(name: str, example: Callable[..., Any], *functions: Callable[..., Any]) -> Kernel:
        function, eager, empty = (partial(each, bits=bits) for each in functions)
        place, symbol = f"{__name__}:{name}{bits}", f"{name.lower()}{bits}"
        return Kernel(place, function, eager, empty, example, SOURCE, symbol)

    return (
        kernel("PACK", _example, _pack, _pack_in_chunks, _empty_words),
        kernel("UNPACK", _example_words, _unpack, _unpack_in_chunks, _empty_numbers),
    )


def _group_codes(bits: int, kernels: tuple[Kernel, Kernel]) -> GroupCodes:
    made = "(Tensor x, Tensor rows, Tensor columns) -> (Tensor, Tensor, Tensor)"
    back = "(Tensor words, Tensor low, Tensor step) -> Tensor"
    pack, unpack = kernels
    return GroupCodes(
        bits,
        kernels,
        operator(f"pack{bits}{made}", pack, pack.empty),
        operator(f"unpack{bits}{back}", unpack, unpack.empty),
    )


PACK2, UNPACK2 = _kernels(2)
PACK4, UNPACK4 = _kernels(4)
TWO_BITS = _group_codes(2, (PACK2, UNPACK2))
FOUR_BITS = _group_codes(4, (PACK4, UNPACK4))
