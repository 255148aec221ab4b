"""The order of the images of a training, and the seed of each position in it."""

import functools

import torch
from torch import Tensor

from bsrbench.harness.workload.seeds import seed_of


class ImageOrder:
    """The image index at each position of an endless training, with a new order per epoch.

    The image at a position depends only on the seed, so training can be resumed from any step.
    Several threads can use it.

    Args:
        count: number of images.
        seed: seed of the trial.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count, self._seed = count, seed

    def __getitem__(self, position: int) -> int:
        """Return the index of the image at a position."""
        epoch, place = divmod(position, self._count)
        return int(_order_of_epoch(self._count, self._seed, epoch)[place])

    def images(self, positions: range) -> list[int]:
        """Return the images at consecutive positions, each once, in the order of their first use.

        After one epoch all images have occurred, so later positions are not looked at.
        """
        first_uses = positions[: 2 * self._count]  # contains a whole epoch
        return list(dict.fromkeys(self[position] for position in first_uses))


@functools.lru_cache(maxsize=4)  # threads may be at work on two epochs at the same time
def _order_of_epoch(count: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
    return torch.randperm(count, generator=generator)
