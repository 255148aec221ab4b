"""The optimizer Adafactor, as torch defines it."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bsrbench.harness.training.update_rules.rule_optimizer import Update

ROWS, COLUMNS, SQUARES = "row_var", "col_var", "variance"  # torch's names
MATRIX = 2  # dimensions


@dataclass(frozen=True)
class Adafactor:
    """Adafactor (Shazeer and Stern 2018, arXiv 1804.04235), with torch's defaults.

    The squares of a matrix are kept as means of its rows and columns, those of a vector in full.
    The formulas are those of ``torch.optim.Adafactor``, which reads two norms of each parameter
    from the device in every step, and so cannot run over tensors without values. A step needs one
    temporary tensor of the size of the parameter.

    Attributes:
        beta2_decay: in step t, new squares have the weight t to the power of this.
        clip_threshold: bound on the root mean square of the update (d in the paper).
        least_scale: lower bound on the scale of a parameter (the second epsilon).
    """

    beta2_decay: float
    clip_threshold: float
    least_scale: float

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape."""
        if parameter.dim() < MATRIX:
            return {SQUARES: torch.zeros_like(parameter)}
        *batch, rows, columns = parameter.shape
        return {
            ROWS: parameter.new_zeros(*batch, rows, 1),
            COLUMNS: parameter.new_zeros(*batch, 1, columns),
        }

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter of any shape and its state."""
        least = torch.finfo(parameter.dtype).eps
        variance = _variance(gradient, state, update.step**self.beta2_decay, least)
        change = variance.clamp_(min=least**2).rsqrt_().mul_(gradient)
        scale = _root_mean_square(parameter).clamp_(min=self.least_scale)
        clip = _root_mean_square(change).div_(self.clip_threshold).clamp_(min=1.0)
        rate = min(update.learning_rate, 1 / math.sqrt(update.step))
        update.decay(parameter)
        parameter.sub_(change.mul_(scale * rate / clip))


def _variance(gradient: Tensor, state: dict[str, Any], weight: float, least: float) -> Tensor:
    """Add the squares of a gradient to the state; return the variance, in the gradient's shape."""
    if gradient.dim() < MATRIX:
        kept: Tensor = state[SQUARES].lerp_(gradient.square(), weight)
        return kept.clone()
    rows: Tensor = state[ROWS].lerp_(_mean_of_squares(gradient, -1), weight)
    columns: Tensor = state[COLUMNS].lerp_(_mean_of_squares(gradient, -2), weight)
    return (rows @ columns).div_(rows.mean(dim=-2, keepdim=True).clamp_(min=least))


def _mean_of_squares(tensor: Tensor, dim: int) -> Tensor:
    """Return means over one dimension without making the squares of all elements."""
    norm: Tensor = torch.linalg.vector_norm(tensor, dim=dim, keepdim=True)
    return norm.square_().div_(tensor.size(dim))


def _root_mean_square(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm / math.sqrt(tensor.numel())
