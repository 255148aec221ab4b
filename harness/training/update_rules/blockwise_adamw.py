"""AdamW whose moments have 8 or 4 bits."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.training.update_rules.adam_moments import MEAN, SQUARES, AdamMoments
from bsrbench.harness.training.update_rules.block_codes import (
    NIBBLE,
    BlockCodes,
    dynamic_values,
    even_values,
)
from bsrbench.harness.training.update_rules.rule_optimizer import Update

FEWEST = 4096  # smaller parameters keep moments in full, as in bitsandbytes and torchao
# Elements that are updated at once. It bounds the temporary tensors of a step, which have about
# seven times this number of words, and is enough to keep a GPU busy.
PART = 2**20
CODES, SCALES, VALUES = "codes", "scales", "values"
Blocks = tuple[Tensor, Tensor, Tensor]  # codes, scales, and the values of codes


@dataclass(frozen=True)
class BlockwiseAdamW:
    """AdamW whose moments are stored in blocks of 8-bit or 4-bit codes.

    Source: Dettmers et al. 2022 (arXiv 2110.02861) for 8 bits, Li et al. 2023 (arXiv 2309.01507)
    for 4 bits, with the codes, blocks and exceptions of torchao's ``AdamW8bit`` and ``AdamW4bit``.
    The update uses the moments before they are stored. Parameters that are small or not contiguous
    keep their moments in full.

    Attributes:
        moments: the settings of Adam.
        stored: the form of the stored moments.
        values: device -> the values of the codes, which all parameters share.
    """

    moments: AdamMoments
    stored: BlockCodes
    values: dict[torch.device, Tensor] = field(default_factory=dict)

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape."""
        if parameter.numel() < FEWEST or not parameter.is_contiguous():
            return self.moments.begin(parameter)
        state = {VALUES: self._shared_values(parameter)}
        for name in (MEAN, SQUARES):
            codes, scales = self.stored.begin(parameter.numel(), parameter)
            state |= {f"{name}_{CODES}": codes, f"{name}_{SCALES}": scales}
        return state

    def _shared_values(self, parameter: Tensor) -> Tensor:
        """Return the values of codes of the mean and of the squares, [2, number of codes]."""
        if parameter.device not in self.values:
            bits = self.stored.bits
            squares = even_values(bits) if bits == NIBBLE else dynamic_values(bits, signed=False)
            both = [dynamic_values(bits, signed=True), squares]
            self.values[parameter.device] = torch.tensor(both, device=parameter.device)
        return self.values[parameter.device]

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter of any shape and its state, part by part."""
        if MEAN in state:
            self.moments.update(parameter, gradient, state, update)
            return
        update.decay(parameter)
        weights, gradients = parameter.view(-1), gradient.reshape(-1)
        for begin in range(0, len(weights), PART):
            part = slice(begin, begin + PART)
            self._update_part(weights[part], gradients[part], self._blocks(state, part), update)

    def _blocks(self, state: dict[str, Any], part: slice) -> dict[str, Blocks]:
        """Return codes, scales and values of both moments for a part of the elements."""
        blocks = slice(part.start // self.stored.size, part.stop // self.stored.size)
        return {
            name: (
                state[f"{name}_{CODES}"][blocks],
                state[f"{name}_{SCALES}"][blocks],
                state[VALUES][row],
            )
            for row, name in enumerate((MEAN, SQUARES))
        }

    def _update_part(
        self,
        weights: Tensor,
        gradients: Tensor,
        blocks: dict[str, Blocks],
        update: Update,
    ) -> None:
        """Update weights [n] with gradients [n], and the blocks of their moments."""
        mean, squares = (self.stored.read(*blocks[name], len(weights)) for name in (MEAN, SQUARES))
        self.moments.add(mean, squares, gradients)
        self.moments.apply(weights, mean, squares, update)
        self.stored.write(mean, *blocks[MEAN])
        self.stored.write(squares, *blocks[SQUARES])
