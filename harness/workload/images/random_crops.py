"""Draw the random crop of a training image: the same box that torchvision would draw."""

import math
from dataclasses import dataclass

import torch

RATIO = (3 / 4, 4 / 3)  # smallest and largest width of a crop, divided by its height
# In fp32, as torchvision computes it.
LOG_RATIO: tuple[float, float] = tuple(torch.log(torch.tensor(RATIO)).tolist())
ATTEMPTS = 10


@dataclass(frozen=True)
class Crop:
    """A box of an image in pixels, and whether it is flipped from left to right."""

    top: int
    left: int
    height: int
    width: int
    flipped: bool = False


def random_crop(
    height: int, width: int, scale: tuple[float, float], seed: int, *, flips: bool
) -> Crop:
    """Return the crop of an image that a seed determines.

    It is bit for bit the box of ``torchvision.transforms.v2.RandomResizedCrop`` after
    ``torch.manual_seed(seed)``. A generator of its own replaces the global one, whose state would
    have to be saved and restored for every image.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
        scale: smallest and largest area of the crop, as fractions of the image.
        seed: seed of the crop.
        flips: whether half of the crops are flipped.
    """
    generator = torch.Generator().manual_seed(seed)
    top, left, high, wide = _box(height, width, scale, generator)
    flipped = flips and torch.rand((), generator=generator).item() < 0.5  # noqa: PLR2004 - a coin
    return Crop(top, left, high, wide, flipped)


def _box(
    height: int, width: int, scale: tuple[float, float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    """Return top, left, height and width of a random box inside an image."""
    for _ in range(ATTEMPTS):
        area = height * width * _uniform(scale, generator).item()
        ratio = torch.exp(_uniform(LOG_RATIO, generator)).item()
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            top = _whole(height - high + 1, generator)
            return top, _whole(width - wide + 1, generator), high, wide
    high, wide = _widest_box(height, width)
    return (height - high) // 2, (width - wide) // 2, high, wide


def _uniform(bounds: tuple[float, float], generator: torch.Generator) -> torch.Tensor:
    return torch.empty(1).uniform_(*bounds, generator=generator)


def _whole(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(0, below, (1,), generator=generator))


def _widest_box(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the largest box with a valid ratio."""
    if width / height < min(RATIO):
        return round(width / min(RATIO)), width
    if width / height > max(RATIO):
        return height, round(height * max(RATIO))
    return height, width
