"""The optimizer Lion."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.training.update_rules.rule_optimizer import Update

MEAN = "exp_avg"


@dataclass(frozen=True)
class Lion:
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2): a step is the sign of a mean.

    Its one state has the size of the parameter, and so has the temporary tensor of a step.

    Attributes:
        beta1: weight of the mean, against the gradient, in the direction of the step.
        beta2: decay of the mean.
    """

    beta1: float
    beta2: float

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape."""
        return {MEAN: torch.zeros_like(parameter)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter of any shape and its state."""
        direction = state[MEAN].lerp(gradient, 1 - self.beta1).sign_()
        update.decay(parameter)
        parameter.add_(direction, alpha=-update.learning_rate)
        state[MEAN].lerp_(gradient, 1 - self.beta2)
