"""Numbers stored in blocks: codes of 8 or 4 bits, and one scale per block."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bsrbench.harness.training.update_rules.code_tables import NIBBLE, CodeTable

WORD = 32  # bits


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

    def read(self, codes: Tensor, scales: Tensor, table: CodeTable, count: int) -> Tensor:
        """Return the first ``count`` numbers, of shape [count].

        Args:
            codes: [blocks, bytes of a block].
            scales: [blocks].
            table: the values of codes.
            count: how many numbers there are; the last block can have unused codes.
        """
        numbers = table.values(codes.view(-1)).view(-1, self.size)
        return numbers.mul_(scales.unsqueeze(1)).view(-1)[:count]

    def write(self, numbers: Tensor, codes: Tensor, scales: Tensor, table: CodeTable) -> None:
        """Store numbers of shape [count]; each takes the nearest value.

        Args:
            numbers: [count], overwritten.
            codes: [blocks, bytes of a block], overwritten.
            scales: [blocks], overwritten.
            table: the values of codes; without negative values, no number may be negative.
        """
        unused = len(scales) * self.size - len(numbers)  # F.pad copies, even if there are none
        blocks = (F.pad(numbers, (0, unused)) if unused else numbers).view(-1, self.size)
        # The norm to the power of infinity is the same, and takes twenty times longer on a CPU.
        torch.amax(blocks, dim=1, out=scales)
        if table.least < 0:
            torch.maximum(scales, blocks.amin(dim=1).neg_(), out=scales)
        smallest = torch.finfo(scales.dtype).tiny  # blocks of zeros remain zeros
        blocks.div_(scales.clamp(min=smallest).unsqueeze(1))
        found = table.codes(blocks.view(-1))
        if self.bits == NIBBLE:  # the first of two codes is the lower word of 8 bytes
            pairs = found.view(torch.int64)
            found = (pairs >> WORD).bitwise_or_(pairs.bitwise_left_shift_(NIBBLE))
        codes.copy_(found.view(codes.shape))
