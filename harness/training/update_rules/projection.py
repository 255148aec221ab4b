"""Gradients of matrices, projected to few rows or columns."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

QUARTER = 4  # the default rank is the shorter side divided by this
MATRIX = 2  # dimensions


@dataclass(frozen=True)
class Projection:
    """The projection of a gradient [rows, columns] of a matrix on its shorter side.

    Attributes:
        rank: width of the projected side; ``None`` is a quarter of the shorter side.
    """

    rank: int | None

    def rank_of(self, parameter: Tensor) -> int | None:
        """Return the rank for a parameter of any shape; ``None`` if it is not projected.

        Only matrices whose shorter side is longer than the rank are projected.
        """
        if parameter.dim() != MATRIX:
            return None
        shorter = min(parameter.shape)
        rank = self.rank or max(1, shorter // QUARTER)
        return rank if rank < shorter else None

    def begin(self, parameter: Tensor) -> Tensor | None:
        """Return zeros in the shape of the projected gradient; ``None`` if it is not projected.

        Args:
            parameter: of any shape.
        """
        rank = self.rank_of(parameter)
        if rank is None:
            return None
        rows, columns = parameter.shape
        return parameter.new_zeros((rows, rank) if is_tall(parameter) else (rank, columns))


def is_tall(matrix: Tensor) -> bool:
    """Return whether a matrix [rows, columns] has at least as many rows as columns."""
    return matrix.shape[0] >= matrix.shape[1]


def projected(gradient: Tensor, basis: Tensor) -> Tensor:
    """Return a gradient [rows, columns] in a basis [shorter side, rank]."""
    return gradient @ basis if is_tall(gradient) else basis.T @ gradient


def add_projected_back(parameter: Tensor, change: Tensor, basis: Tensor, factor: float) -> None:
    """Add a projected change times a factor to a parameter, without a tensor of its size.

    Args:
        parameter: [rows, columns].
        change: as ``projected`` returns it.
        basis: [shorter side, rank].
        factor: the factor.
    """
    pair = (change, basis.T) if is_tall(parameter) else (basis, change)
    parameter.addmm_(*pair, alpha=factor)


def leading_directions(gradient: Tensor, rank: int) -> Tensor:
    """Return the first singular vectors on the shorter side of a gradient, [shorter side, rank]."""
    left: Tensor
    right: Tensor
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    return right[:rank].T if is_tall(gradient) else left[:, :rank]


def random_directions(gradient: Tensor, rank: int, seed: int) -> Tensor:
    """Return normal random numbers with the variance 1 / rank, [shorter side, rank].

    Args:
        gradient: [rows, columns].
        rank: number of directions.
        seed: the same seed gives the same numbers on the same device.
    """
    generator = torch.Generator(gradient.device).manual_seed(seed)
    shape = (min(gradient.shape), rank)
    numbers = torch.randn(shape, generator=generator, dtype=gradient.dtype, device=gradient.device)
    return numbers.div_(math.sqrt(rank))
