"""Data sets that need no file of the user: scikit-learn's digits, and noise."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload.data.splits import ImageData, InMemory, carve

NAMES = ("digits", "noise")
DIGITS_CLASSES = 10
NOISE_CLASSES = 10  # unless asked otherwise
SHARE = 0.2  # fraction of the digits in the test split, and in the validation split
DIGITS_SIDE = 8
DIGITS_FILE = "datasets/data/digits.csv.gz"


def digits() -> ImageData:
    """Return scikit-learn's digits: 1,797 real images of 8 x 8 in 10 classes, split 60/20/20.

    Raises:
        BadInput: scikit-learn is not installed, or does not contain the file.
    """
    rows = np.loadtxt(_digits_file(), delimiter=",")  # pixels, then the class
    grey = rows[:, :-1].reshape(-1, DIGITS_SIDE, DIGITS_SIDE)
    grey = np.rint(grey * (255 / 16)).astype(np.uint8)  # stored as 0 to 16
    images = torch.from_numpy(grey).unsqueeze(1).expand(-1, 3, -1, -1)
    labels = torch.from_numpy(rows[:, -1].astype(np.int64))
    rest, test = carve(InMemory(images, labels), SHARE)
    train, validation = carve(rest, SHARE / (1 - SHARE))
    return ImageData(train, validation, test)


def _digits_file() -> Path:
    """Return scikit-learn's digits file, without importing scikit-learn, which takes a second."""
    package = find_spec("sklearn")
    path = Path(package.origin).parent / DIGITS_FILE if package and package.origin else None
    if path is None or not path.is_file():
        raise BadInput(
            f"scikit-learn's digits: no file {DIGITS_FILE} of scikit-learn; install scikit-learn "
            "1.5 or newer"
        )
    return path


def noise(classes: int, seed: int) -> ImageData:
    """Return images of random noise, 16 x 16, drawn with a seed."""
    generator = torch.Generator().manual_seed(seed)

    def split(count: int) -> InMemory:
        images = torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)
        return InMemory(images, torch.arange(count) % classes)

    return ImageData(split(4 * classes), split(classes), split(classes))
