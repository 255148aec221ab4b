"""Tables that turn numbers from -1 to 1 into codes of 8 or 4 bits, and codes into numbers."""

import struct
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

BYTE, NIBBLE = 8, 4
EXPONENTS = {BYTE: 7, NIBBLE: 3}  # bits of a code -> most bits of its exponent
SIGN, MAGNITUDE = 31, 2**31 - 1  # the place of the sign in fp32, and the bits of the rest
HOLDS = {1: torch.float32, 2: torch.float64}  # codes in a byte -> what has room for their values


@dataclass(frozen=True)
class CodeTable:
    """Tables that turn numbers from -1 to 1 into codes, and bytes of codes into numbers.

    The bits of an fp32 number, taken for an integer, are in the order of the numbers. The upper
    bits name a cell, which has room for one border between two codes at most. An entry of
    ``cells`` is such that its sum with the number's bits has the number's code in the upper bits:
    the sum of the lower bits carries exactly if the number is above the border. So one look-up
    finds the nearest code, where a binary search among the borders takes about eight.

    Attributes:
        numbers: the values of the codes of each byte, [256, codes per byte].
        cells: [cells], int32.
        shift: number of lower bits.
        least: ordered bits of the border above the first code.
        most: ordered bits of the smallest number with the last code.
    """

    numbers: Tensor
    cells: Tensor
    shift: int
    least: int
    most: int

    def values(self, codes: Tensor) -> Tensor:
        """Return the value of each code, [numbers], for whole bytes of codes [bytes]."""
        single = self.numbers.view(HOLDS[self.numbers.shape[1]]).view(-1)
        return single.index_select(0, codes.int()).view(torch.float32)

    def codes(self, numbers: Tensor) -> Tensor:
        """Return the code of the nearest value of each number, [numbers], int32.

        The code of a number that is not finite is arbitrary.

        Args:
            numbers: [numbers], contiguous, from -1 to 1, overwritten.
        """
        bits = numbers.view(torch.int32)
        if self.least < 0:  # those of a negative number descend with it
            bits.bitwise_xor_((bits >> SIGN).bitwise_and_(MAGNITUDE))
        bits.clamp_(self.least, self.most)
        places = (bits >> self.shift).sub_(self.least >> self.shift)
        sums = self.cells.index_select(0, places)
        return sums.add_(bits).bitwise_right_shift_(self.shift)


def code_table(values: Sequence[float], device: torch.device) -> CodeTable:
    """Return the tables of ascending values; there are 256 or 16."""
    stored = [_rounded(value) for value in values]
    borders = [_ordered_bits((low + high) / 2) for low, high in pairwise(stored)]
    shift = _largest_shift(borders)
    least, most = borders[0], borders[-1] + 1
    cells = [_entry(cell, borders, shift) for cell in range(least >> shift, (most >> shift) + 1)]
    bits = (len(values) - 1).bit_length()
    of_bytes = [[value] for value in values]
    if bits == NIBBLE:
        of_bytes = [[first, second] for first in values for second in values]
    return CodeTable(
        torch.tensor(of_bytes, dtype=torch.float32, device=device),
        torch.tensor(cells, dtype=torch.int32, device=device),
        shift,
        least,
        most,
    )


def _ordered_bits(number: float) -> int:
    """Return the bits of an fp32 number as an integer, in the order of the numbers."""
    (bits,) = struct.unpack("<i", struct.pack("<f", number))
    return int(bits ^ MAGNITUDE if bits < 0 else bits)


def _rounded(number: float) -> float:
    """Return the nearest fp32 number."""
    (nearest,) = struct.unpack("<f", struct.pack("<f", number))
    return float(nearest)


def _largest_shift(borders: Sequence[int]) -> int:
    """Return the most lower bits so that no two borders have the same upper bits."""
    shift = 0
    while all(low >> shift + 1 < high >> shift + 1 for low, high in pairwise(borders)):
        shift += 1
    return shift


def _entry(cell: int, borders: Sequence[int], shift: int) -> int:
    """Return what adds up with the bits of a number in a cell to its code, in the upper bits."""
    first = cell << shift  # bits of the smallest number of the cell
    last = first + 2**shift - 1
    code = bisect_left(borders, first)  # of the smallest number
    border = borders[code] if code < len(borders) else last
    return int((code << shift) + max(last - border, 0) - first)


def dynamic_values(bits: int, *, signed: bool) -> list[float]:
    """Return the values of dynamic codes in ascending order, from -1 or 0 to 1.

    A code has an exponent of 10, and what is left of its bits divides the range from a tenth of
    the power to the power evenly (Dettmers et al. 2022, arXiv 2110.02861, section 1.3). The codes
    are those of bitsandbytes and torchao: there are two more, for 0 and for 1.
    """
    exponents = EXPONENTS[bits]
    found = [0.0, 1.0]
    for exponent in range(exponents):
        parts = 2**exponent if signed else 2 ** (exponent + 1)
        power = 10.0 ** (exponent - exponents + 1)
        middles = [power * (0.1 + 0.9 * (part + 0.5) / parts) for part in range(parts)]
        found += middles + ([-middle for middle in middles] if signed else [])
    return sorted(found)


def even_values(bits: int) -> list[float]:
    """Return evenly spaced values in ascending order, without 0 and including 1.

    For 4 bits, squares are never stored as 0, which would make an update infinite (Li et al. 2023,
    arXiv 2309.01507, section 4.1).
    """
    return [(code + 1) / 2**bits for code in range(2**bits)]
