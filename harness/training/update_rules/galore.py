"""The optimizer GaLore."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bsrbench.harness.training.update_rules.adam_moments import MEAN, SQUARES, AdamMoments
from bsrbench.harness.training.update_rules.projection import (
    Projection,
    add_projected_back,
    leading_directions,
    projected,
)
from bsrbench.harness.training.update_rules.rule_optimizer import Update

BASIS = "basis"


@dataclass(frozen=True)
class GaLore:
    """GaLore (Zhao et al. 2024, arXiv 2403.03507, Algorithm 2): AdamW on projected gradients.

    The basis is the leading singular vectors of a gradient. It is a state, and is computed again
    every ``refresh_steps`` steps; this step needs more time and memory than others. Matrices are
    projected; other parameters, and matrices that are not larger than the rank, are updated by
    AdamW. Weight decay is decoupled and not projected.

    Attributes:
        moments: the settings of Adam.
        projection: the rank.
        refresh_steps: number of steps with the same basis.
        scale: factor of the projected update.
    """

    moments: AdamMoments
    projection: Projection
    refresh_steps: int
    scale: float

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape."""
        small, rank = self.projection.begin(parameter), self.projection.rank_of(parameter)
        if small is None or rank is None:
            return self.moments.begin(parameter)
        basis = parameter.new_zeros(min(parameter.shape), rank)
        return {BASIS: basis, **self.moments.begin(small)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter of any shape and its state."""
        if BASIS not in state:
            self.moments.update(parameter, gradient, state, update)
            return
        basis, step = state[BASIS], update.step
        if (step - 1) % self.refresh_steps == 0:
            basis.copy_(leading_directions(gradient, basis.shape[1]))
        self.moments.add(state[MEAN], state[SQUARES], projected(gradient, basis))
        change = state[MEAN] / self.moments.divisor(state[SQUARES], step)
        update.decay(parameter)
        factor = update.learning_rate * self.scale * self.moments.correction(step)
        add_projected_back(parameter, change, basis, -factor)
