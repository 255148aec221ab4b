"""The data sets of the papers, through torchvision's loaders and with their published splits."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.v2.functional import pil_to_tensor

from harness.errors import BadInput
from harness.workload.data.root import how_to_choose
from harness.workload.data.splits import (
    VALIDATION_SHARE,
    ImageData,
    InMemory,
    Split,
    carve,
    require_labels,
)

Make = Callable[..., Any]


@dataclass(frozen=True)
class Published:
    """How torchvision reads a data set.

    Attributes:
        make: its class.
        classes: how many it has.
        train: arguments for the training images; so for the others.
        validation: ``None`` where no validation split is published: one is carved.
    """

    make: Make
    classes: int
    train: dict[str, Any]
    test: dict[str, Any]
    validation: dict[str, Any] | None = None


def _by_name(train: str, validation: str | None = None) -> dict[str, dict[str, Any]]:
    parts = {"train": {"split": train}, "test": {"split": "test"}}
    return parts | ({"validation": {"split": validation}} if validation else {})


OLD = {"train": {"train": True}, "test": {"train": False}}
DATA_SETS = {
    "cifar10": Published(datasets.CIFAR10, 10, **OLD),
    "cifar100": Published(datasets.CIFAR100, 100, **OLD),
    "pets": Published(datasets.OxfordIIITPet, 37, **_by_name("trainval")),
    "flowers102": Published(datasets.Flowers102, 102, **_by_name("train", "val")),
    "food101": Published(datasets.Food101, 101, **_by_name("train")),
    "aircraft": Published(datasets.FGVCAircraft, 100, **_by_name("train", "val")),
}


def fetch(name: str, root: Path) -> None:
    """Download what is not there yet, with torchvision's progress bar.

    Raises:
        BadInput: it is not there and cannot be downloaded.
    """
    published = DATA_SETS[name]
    for arguments in (published.train, published.test):
        try:
            _open(published, root, arguments)
        except RuntimeError:
            break
    else:
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with archives_that_stay_inside():
            published.make(str(root), download=True, **published.train)
            published.make(str(root), download=True, **published.test)
    # torchvision asks servers through several libraries, each with network errors of its own.
    except Exception as error:
        raise BadInput(
            f"{name} is not below {root.resolve()} and cannot be downloaded "
            f"({type(error).__name__}: {error}); on a machine without a network put the files of "
            f"torchvision.datasets.{published.make.__name__} there; {how_to_choose()}"
        ) from error


@contextmanager
def archives_that_stay_inside() -> Iterator[None]:
    """Let no archive write outside its folder, nor make links and devices.

    torchvision unpacks whatever it has fetched, and not every data set has a published hash.
    """
    before = tarfile.TarFile.extraction_filter
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def load(name: str, root: Path) -> ImageData:
    """Return a data set that ``fetch`` has found.

    Raises:
        BadInput: it is not there, or its files are damaged.
    """
    published = DATA_SETS[name]
    try:
        train = _split(name, published, root, published.train)
        test = _split(name, published, root, published.test)
        if published.validation is None:
            train, validation = carve(train, VALIDATION_SHARE)
        else:
            validation = _split(name, published, root, published.validation)
    except (RuntimeError, OSError, EOFError) as error:
        raise BadInput(f"{name} cannot be read below {root.resolve()}: {error}") from error
    counts = [len(split.labels) for split in (train, validation, test)]
    return ImageData(train, validation, test, {"name": name, "images": sum(counts)})


@dataclass(frozen=True)
class OfTorchvision:
    """A data set of torchvision's that decodes an image when asked for it."""

    data: Any
    labels: Tensor

    def image(self, index: int) -> Tensor:
        """Return an image."""
        try:
            pixels: Tensor = pil_to_tensor(self.data[index][0].convert("RGB"))
        except (OSError, SyntaxError) as error:
            name = type(self.data).__name__
            raise BadInput(f"image {index} of {name} does not decode: {error}") from error
        return pixels


def _open(published: Published, root: Path, arguments: dict[str, Any]) -> Any:
    return published.make(str(root), download=False, **arguments)


def _split(name: str, published: Published, root: Path, arguments: dict[str, Any]) -> Split:
    opened = _open(published, root, arguments)
    in_memory = isinstance(getattr(opened, "data", None), np.ndarray)
    # The other loaders have labels under a private name only, beside decoding every image.
    found = opened.targets if in_memory else opened._labels  # noqa: SLF001
    labels = torch.tensor(found, dtype=torch.int64)
    classes = [str(name) for name in getattr(opened, "classes", range(published.classes))]
    require_labels(labels, classes, f"{name}, {' '.join(map(str, arguments.values()))}")
    if in_memory:
        return InMemory(torch.from_numpy(opened.data).permute(0, 3, 1, 2).contiguous(), labels)
    return OfTorchvision(opened, labels)
