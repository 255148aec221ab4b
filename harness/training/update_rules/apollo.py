"""The optimizers APOLLO and APOLLO-Mini."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from bsrbench.harness.training.update_rules.adam_moments import MEAN, SQUARES, AdamMoments
from bsrbench.harness.training.update_rules.projection import (
    Projection,
    is_tall,
    projected,
    random_directions,
)
from bsrbench.harness.training.update_rules.rule_optimizer import Update

NORM = "norm"
LEAST = 1e-8  # is added to norms that are divisors, as in the authors' code
SEEDS, STRIDE = 2**31 - 1, 1_000_003  # primes


@dataclass(frozen=True)
class Apollo:
    """APOLLO (Zhu et al. 2025, arXiv 2412.05270, Algorithm 1): gradients scaled per channel.

    Adam runs on randomly projected gradients. Only the norms of its update are used: they scale
    the gradient itself, per channel of the longer side, or per matrix (APOLLO-Mini). The random
    basis is not a state: its seed consists of the trial's seed, the parameter's place, and the
    number of the refresh. The norm of an update is bounded by a multiple of the norm before; an
    update of 0 sets no bound. Which parameters are projected is as in ``GaLore``.

    Attributes:
        moments: the settings of Adam.
        projection: the rank.
        refresh_steps: number of steps with the same basis.
        scale: the square root of it multiplies the update.
        norm_growth: bound on the growth of the norm of an update in one step.
        per_matrix: whether there is one factor per matrix instead of one per channel.
        seed: the seed of the trial.
    """

    moments: AdamMoments
    projection: Projection
    refresh_steps: int
    scale: float
    norm_growth: float
    per_matrix: bool
    seed: int

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape."""
        small = self.projection.begin(parameter)
        if small is None:
            return self.moments.begin(parameter)
        return {NORM: parameter.new_zeros(()), **self.moments.begin(small)}

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter of any shape and its state."""
        if NORM not in state:
            self.moments.update(parameter, gradient, state, update)
            return
        change = gradient * self._factors(gradient, state, update)
        change.mul_(self._limit(vector_norm(change), state[NORM]))
        update.decay(parameter)
        parameter.sub_(change, alpha=update.learning_rate * math.sqrt(self.scale))

    def _factors(self, gradient: Tensor, state: dict[str, Any], update: Update) -> Tensor:
        """Return the factors of a gradient [rows, columns]: [rows, 1], [1, columns] or [1, 1]."""
        rank = min(state[MEAN].shape)
        basis = random_directions(gradient, rank, self._seed(update))
        small = projected(gradient, basis)
        self.moments.add(state[MEAN], state[SQUARES], small)
        scaled = state[MEAN] / self.moments.divisor(state[SQUARES], update.step)
        scaled.mul_(self.moments.correction(update.step))
        dims = (0, 1) if self.per_matrix else int(is_tall(gradient))
        above: Tensor = vector_norm(scaled, dim=dims, keepdim=True)
        below: Tensor = vector_norm(small, dim=dims, keepdim=True)
        return above / (below + LEAST)

    def _seed(self, update: Update) -> int:
        """Return a seed of its own for each trial, parameter and refresh."""
        refresh = (update.step - 1) // self.refresh_steps
        return ((self.seed * STRIDE + update.place) * STRIDE + refresh) % SEEDS

    def _limit(self, norm: Tensor, before: Tensor) -> Tensor:
        """Return the factor that bounds the norm, and keep the bounded norm; both have shape []."""
        bound = (before * self.norm_growth) / norm.clamp(min=LEAST)
        factor = torch.where(before > 0, bound.clamp(max=1.0), 1.0)
        before.copy_(norm * factor)
        return factor
