"""Images: small real data sets and seeded noise, as tensors in memory."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from harness.errors import BadInput, unknown

NAMES = ("digits", "noise")
CLASSES = {"digits": 10}
NOISE_CLASSES = 10  # unless asked otherwise
SPLIT_SEED = 0  # the splits are the same for every trial; only the order of images is seeded
TEST_SHARE = VALIDATION_SHARE = 0.2


@dataclass(frozen=True)
class Split:
    """Images of one split, small as they were made.

    Attributes:
        images: uint8, [n, 3, side, side].
        labels: int64, [n].
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Enlarge:
    """How stored images become a model's input.

    Attributes:
        side: pixels; images are resized bicubically to side x side.
        mean: of the pixels, a channel.
        deviation: of the pixels, a channel.
    """

    side: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Map uint8 [n, 3, s, s] to fp32 [n, 3, side, side]."""
        scaled = F.interpolate(images.float() / 255, (self.side, self.side), mode="bicubic")
        shape = (1, -1, 1, 1)
        shift, width = torch.tensor(self.mean).view(shape), torch.tensor(self.deviation).view(shape)
        return scaled.clamp_(0, 1).sub_(shift).div_(width)


@dataclass(frozen=True)
class ImageData:
    """A data set with its three splits; the test split is read once, at the end of a trial."""

    train: Split
    validation: Split
    test: Split


def classes(name: str, asked: int | None) -> int:
    """Return how many classes a data set has; ``noise`` has as many as asked for.

    Raises:
        BadInput: an unknown name, or a number the data set does not have.
    """
    if name not in NAMES:
        raise unknown("data set", name, NAMES)
    there = CLASSES.get(name) or asked or NOISE_CLASSES
    if asked not in {None, there}:
        raise BadInput(f"{name!r} has {there} classes, not {asked}")
    return there


def load(name: str, classes: int | None, seed: int) -> ImageData:
    """Return a data set by name; ``noise`` needs the number of classes and a seed.

    Raises:
        BadInput: an unknown name.
    """
    if name == "digits":
        return _digits()
    if name == "noise":
        return _noise(classes or NOISE_CLASSES, seed)
    raise unknown("data set", name, NAMES)


def _digits() -> ImageData:
    """Return scikit-learn's digits: 1,797 real images of 8 x 8 in 10 classes, 60/20/20."""
    # Imported here: they take a second, and passes that only profile never get here.
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    raw = load_digits()
    grey = np.rint(raw.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    labels = raw.target.astype(np.int64)
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, random_state=SPLIT_SEED, stratify=labels
    )
    train, validation = train_test_split(
        rest,
        test_size=VALIDATION_SHARE / (1 - TEST_SHARE),
        random_state=SPLIT_SEED,
        stratify=labels[rest],
    )
    images = torch.from_numpy(grey).unsqueeze(1).expand(-1, 3, -1, -1)
    targets = torch.from_numpy(labels)
    return ImageData(*(Split(images[i], targets[i]) for i in (train, validation, test)))


def _noise(classes: int, seed: int) -> ImageData:
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> Split:
        images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return Split(images, torch.arange(count) % classes)

    return ImageData(split(4 * classes), split(classes), split(classes))


def training_batches(split: Split, batch: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches for ever; each epoch in a new order drawn from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    while True:
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(split.labels), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        yield split.images[chosen], split.labels[chosen]
