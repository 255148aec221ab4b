"""Images and labels, in memory or in files, and how to carve a split from another."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload.data import pixels

SPLIT_SEED = 0  # splits are the same in every trial; the trial's seed only changes image order
VALIDATION_SHARE = 0.1  # fraction of the training images, if there is no validation split


class Split(Protocol):
    """Images of one split."""

    @property
    def labels(self) -> Tensor:
        """Labels, int64, [n]."""

    def image(self, index: int) -> Tensor:
        """Return an image as it is stored: uint8, [3, height, width]."""

    @property
    def decodes(self) -> bool:
        """Whether ``image`` decodes a file each time it is called."""


@dataclass(frozen=True)
class InMemory:
    """Images of one size.

    Attributes:
        images: uint8, [n, 3, height, width]; preferably with the channels of a pixel adjacent in
            memory, because an image is resized in this format.
        labels: int64, [n].
    """

    images: Tensor
    labels: Tensor
    decodes = False

    def image(self, index: int) -> Tensor:
        """Return an image: uint8, [3, height, width]."""
        return self.images[index]


@dataclass(frozen=True)
class InFiles:
    """Images of any size, each decoded when it is read.

    Attributes:
        files: one file per image.
        labels: int64, [n].
    """

    files: tuple[Path, ...]
    labels: Tensor
    decodes = True

    def image(self, index: int) -> Tensor:
        """Return an image of any mode as uint8, [3, height, width]; see ``pixels``."""
        return pixels.read(self.files[index]).image


@dataclass(frozen=True)
class SplitSubset:
    """Some images of a split."""

    split: Split
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        """Labels of the chosen images, int64, [n]."""
        return self.split.labels[self.indices]

    @property
    def decodes(self) -> bool:
        """Whether ``image`` decodes a file each time it is called."""
        return self.split.decodes

    def image(self, index: int) -> Tensor:
        """Return an image: uint8, [3, height, width]."""
        return self.split.image(int(self.indices[index]))


@dataclass(frozen=True)
class ImageData:
    """A data set with its three splits; the test split is read once, at the end of a trial.

    Attributes:
        train: images for training.
        validation: images for comparing settings and for training curves.
        test: images for the results.
        facts: facts about the data for a record.
        notes: notes about the data for a reader of the results.
    """

    train: Split
    validation: Split
    test: Split
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def carve(
    split: Split, share: float, alike: Tensor | None = None
) -> tuple[SplitSubset, SplitSubset]:
    """Divide a split in two: return the rest, and the carved images.

    The choice of images depends only on the labels and on ``alike``. It is the same in every trial.

    Args:
        split: the split to divide.
        share: fraction of the images of each class that is carved.
        alike: int64 [n], the same number for images of one class that are copies of each other;
            copies stay together. Without it, all images are different.

    Raises:
        BadInput: a class has only one image, or only copies of one image.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    numbers = torch.arange(len(split.labels)) if alike is None else alike
    taken = torch.zeros(len(split.labels), dtype=torch.bool)
    for label in split.labels.unique():
        own = (split.labels == label).nonzero().flatten()
        images = _in_order(numbers[own])
        if len(images) == 1:
            copies = f" and {len(own) - 1} copies of it" if len(own) > 1 else ""
            raise BadInput(
                f"class {int(label)} has one image{copies}; a split cannot be carved from fewer "
                "than two images"
            )
        count = max(1, round(share * len(images)))
        chosen = images[torch.randperm(len(images), generator=generator)[:count]]
        taken[own[torch.isin(numbers[own], chosen)]] = True
    return SplitSubset(split, (~taken).nonzero().flatten()), SplitSubset(
        split, taken.nonzero().flatten()
    )


def _in_order(numbers: Tensor) -> Tensor:
    """Return each number once, in the order of its first occurrence."""
    return torch.tensor(list(dict.fromkeys(numbers.tolist())), dtype=numbers.dtype)


def require_labels(labels: Tensor, classes: Sequence[str], where: str) -> None:
    """Check that labels [n] are indices of classes, and that every class has images.

    Raises:
        BadInput: a label is out of range, or a class has no images.
    """
    if len(labels) == 0:
        raise BadInput(f"{where} has no images")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= len(classes):
        raise BadInput(
            f"{where} has labels from {lowest} to {highest}; expected 0 to {len(classes) - 1}, "
            f"for {len(classes)} classes"
        )
    counts = torch.bincount(labels, minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]:
        listed = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")  # noqa: PLR2004 - one line
        raise BadInput(f"{where} has no image of {len(empty)} classes: {listed}")
