"""Parts of methods that train other blocks after some steps."""

import random
from collections.abc import Iterable

from torch import nn

from bsrbench.methods.parts.trained_parameters import train_only


def train_at_times(model: nn.Module, modules: Iterable[nn.Module]) -> None:
    """Leave trainable what trains at any time, and freeze all other parameters.

    Raises:
        Unsupported: a parameter is already frozen.
    """
    train_only(model, modules)


def shuffled(depth: int, seed: int, draw: int) -> list[int]:
    """Return the numbers of blocks in a random order; the same arguments give the same order.

    Args:
        depth: number of blocks.
        seed: seed of the trial.
        draw: number of the draw within the trial, from 0.
    """
    return random.Random(f"{seed} {draw}").sample(range(depth), depth)  # noqa: S311 - no secret
