"""AdamW whose moments have 8 or 4 bits."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.training.update_rules.adam_moments import MEAN, SQUARES, AdamMoments
from bsrbench.harness.training.update_rules.block_codes import BlockCodes
from bsrbench.harness.training.update_rules.code_tables import (
    NIBBLE,
    CodeTable,
    code_table,
    dynamic_values,
    even_values,
)
from bsrbench.harness.training.update_rules.rule_optimizer import Update

FEWEST = 4096  # smaller parameters keep moments in full, as in bitsandbytes and torchao
# Elements that are updated at once. It bounds the temporary tensors of a step, which have about
# four times this number of words. On a CPU they stay in the processor's cache; a GPU needs more to
# be busy.
PARTS = {"cpu": 2**18}
PART = 2**20  # on other devices
CODES, SCALES, NUMBERS, CELLS = "codes", "scales", "numbers", "cells"
Blocks = tuple[Tensor, Tensor, CodeTable]  # codes, scales, and what codes mean


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
        tables: device -> moment -> its tables, which all parameters share.
    """

    moments: AdamMoments
    stored: BlockCodes
    tables: dict[torch.device, dict[str, CodeTable]] = field(default_factory=dict)

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape."""
        if parameter.numel() < FEWEST or not parameter.is_contiguous():
            return self.moments.begin(parameter)
        state = self._shared_state(parameter)
        for name in (MEAN, SQUARES):
            codes, scales = self.stored.begin(parameter.numel(), parameter)
            state |= {f"{name}_{CODES}": codes, f"{name}_{SCALES}": scales}
        return state

    def _tables(self, device: torch.device) -> dict[str, CodeTable]:
        """Return the tables of both moments."""
        if device not in self.tables:
            bits = self.stored.bits
            squares = even_values(bits) if bits == NIBBLE else dynamic_values(bits, signed=False)
            values = {MEAN: dynamic_values(bits, signed=True), SQUARES: squares}
            self.tables[device] = {name: code_table(of, device) for name, of in values.items()}
        return self.tables[device]

    def _shared_state(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return what all states share; it is part of them so that meters count it."""
        state: dict[str, Tensor] = {}
        for name, table in self._tables(parameter.device).items():
            state |= {f"{name}_{NUMBERS}": table.numbers, f"{name}_{CELLS}": table.cells}
        return state

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter of any shape and its state, part by part."""
        if MEAN in state:
            self.moments.update(parameter, gradient, state, update)
            return
        state |= self._shared_state(parameter)  # a loaded state has copies, in another type
        update.decay(parameter)
        weights, gradients = parameter.view(-1), gradient.reshape(-1)
        size = PARTS.get(parameter.device.type, PART)
        for begin in range(0, len(weights), size):
            part = slice(begin, begin + size)
            self._update_part(weights[part], gradients[part], self._blocks(state, part), update)

    def _blocks(self, state: dict[str, Any], part: slice) -> dict[str, Blocks]:
        """Return codes, scales and tables of both moments for a part of the elements."""
        blocks = slice(part.start // self.stored.size, part.stop // self.stored.size)
        return {
            name: (state[f"{name}_{CODES}"][blocks], state[f"{name}_{SCALES}"][blocks], table)
            for name, table in self._tables(state[f"{MEAN}_{CODES}"].device).items()
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
