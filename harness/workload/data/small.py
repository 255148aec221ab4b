"""Data that need no file: scikit-learn's digits, and noise."""

import numpy as np
import torch

from harness.workload.data.splits import ImageData, InMemory, carve

NAMES = ("digits", "noise")
DIGITS_CLASSES = 10
NOISE_CLASSES = 10  # unless asked otherwise
SHARE = 0.2  # of the digits, for the test split and again for the validation split


def digits() -> ImageData:
    """Return scikit-learn's digits: 1,797 real images of 8 x 8 in 10 classes, 60/20/20."""
    # Imported here: it takes a second, and passes that only profile never get here.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    raw = load_digits()
    grey = np.rint(raw.images * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    images = torch.from_numpy(grey).unsqueeze(1).expand(-1, 3, -1, -1)
    rest, test = carve(InMemory(images, torch.from_numpy(raw.target.astype(np.int64))), SHARE)
    train, validation = carve(rest, SHARE / (1 - SHARE))
    return ImageData(train, validation, test)


def noise(classes: int, seed: int) -> ImageData:
    """Return seeded noise that shows nothing, of 16 x 16."""
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> InMemory:
        images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return InMemory(images, torch.arange(count) % classes)

    return ImageData(split(4 * classes), split(classes), split(classes))
