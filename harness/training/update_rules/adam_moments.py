"""The two moments of Adam, and the update that they give."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bsrbench.harness.training.update_rules.rule_optimizer import Update

MEAN, SQUARES = "exp_avg", "exp_avg_sq"  # torch's names


@dataclass(frozen=True)
class AdamMoments:
    """The settings of Adam's moments (Kingma and Ba, 2015; formulas as in ``torch.optim.AdamW``).

    Attributes:
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of squared gradients.
        eps: is added to the divisor.
    """

    beta1: float
    beta2: float
    eps: float

    def begin(self, like: Tensor) -> dict[str, Tensor]:
        """Return moments of 0 for gradients of any shape."""
        return {MEAN: torch.zeros_like(like), SQUARES: torch.zeros_like(like)}

    def add(self, mean: Tensor, squares: Tensor, gradient: Tensor) -> None:
        """Add a gradient of any shape to the moments, in place."""
        mean.lerp_(gradient, 1 - self.beta1)
        squares.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)

    def divisor(self, squares: Tensor, step: int) -> Tensor:
        """Return the divisor of the mean, for squares of any shape; it has their shape."""
        return squares.sqrt().div_(math.sqrt(1 - self.beta2**step)).add_(self.eps)

    def correction(self, step: int) -> float:
        """Return the factor that corrects the mean, which began at 0."""
        return 1 / (1 - self.beta1**step)

    def apply(self, parameter: Tensor, mean: Tensor, squares: Tensor, update: Update) -> None:
        """Subtract the update of the moments from a parameter of any shape, without decay."""
        rate = update.learning_rate * self.correction(update.step)
        parameter.addcdiv_(mean, self.divisor(squares, update.step), value=-rate)

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Tensor], update: Update
    ) -> None:
        """Update a parameter of any shape and its moments, as AdamW does."""
        self.add(state[MEAN], state[SQUARES], gradient)
        update.decay(parameter)
        self.apply(parameter, state[MEAN], state[SQUARES], update)
