"""Numbers stored in blocks: codes of 8 or 4 bits, and one scale per block."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

NIBBLE = 4
EXPONENTS = {8: 7, 4: 3}  # bits of a code -> most bits of its exponent


@dataclass(frozen=True)
class BlockCodes:
    """Numbers stored in blocks: codes of 8 or 4 bits, and one scale per block.

    A number is the value of its code times the scale, which is the largest absolute number of the
    block. So n numbers need ceil(n / size) * (size * bits / 8 + 4) bytes.

    Attributes:
        bits: bits of a code, 8 or 4.
        size: numbers in a block, a power of two.
    """

    bits: int
    size: int

    def begin(self, count: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes [blocks, bytes of a block] and scales [blocks] of numbers that are 0."""
        blocks = -(-count // self.size)
        width = self.size * self.bits // 8
        codes = torch.zeros(blocks, width, dtype=torch.uint8, device=like.device)
        return codes, torch.zeros(blocks, device=like.device)

    def read(self, codes: Tensor, scales: Tensor, values: Tensor, count: int) -> Tensor:
        """Return the first ``count`` numbers, of shape [count].

        Args:
            codes: [blocks, bytes of a block].
            scales: [blocks].
            values: the value of each code, ascending, of shape [number of codes].
            count: how many numbers there are; the last block can have unused codes.
        """
        if self.bits == NIBBLE:
            codes = torch.stack((codes >> NIBBLE, codes & 15), dim=-1)
        numbers = values.index_select(0, codes.view(-1).int()).view(-1, self.size)
        return numbers.mul_(scales.unsqueeze(1)).view(-1)[:count]

    def write(self, numbers: Tensor, codes: Tensor, scales: Tensor, values: Tensor) -> None:
        """Store numbers of shape [count]; each takes the nearest value.

        Args:
            numbers: [count].
            codes: [blocks, bytes of a block], overwritten.
            scales: [blocks], overwritten.
            values: the value of each code, ascending, of shape [number of codes].
        """
        unused = len(scales) * self.size - len(numbers)  # F.pad copies, even if there are none
        blocks = (F.pad(numbers, (0, unused)) if unused else numbers).view(-1, self.size)
        torch.linalg.vector_norm(blocks, float("inf"), dim=1, out=scales)
        smallest = torch.finfo(scales.dtype).tiny  # blocks of zeros remain zeros
        middles = (values[1:] + values[:-1]) / 2
        shares = blocks / scales.clamp(min=smallest).unsqueeze(1)
        nearest = torch.bucketize(shares, middles, out_int32=True).to(torch.uint8)
        if self.bits == NIBBLE:
            nearest = nearest[:, 0::2].bitwise_left_shift(NIBBLE).bitwise_or_(nearest[:, 1::2])
        codes.copy_(nearest)


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
