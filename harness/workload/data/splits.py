"""Images and labels, in memory or in files, and how one set becomes three splits."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload.data import pixels

SPLIT_SEED = 0  # the splits are the same for every trial; only the order of images is seeded
VALIDATION_SHARE = 0.1  # of the training images, where no validation split is published


class Split(Protocol):
    """Images of one split."""

    @property
    def labels(self) -> Tensor:
        """Labels, int64, [n]."""

    def image(self, index: int) -> Tensor:
        """Return an image as it is stored: uint8, [3, height, width]."""


@dataclass(frozen=True)
class InMemory:
    """Images of one size.

    Attributes:
        images: uint8, [n, 3, height, width].
        labels: int64, [n].
    """

    images: Tensor
    labels: Tensor

    def image(self, index: int) -> Tensor:
        """Return an image: uint8, [3, height, width]."""
        return self.images[index]


@dataclass(frozen=True)
class InFiles:
    """Images of any size, decoded when asked for.

    Attributes:
        files: one an image.
        labels: int64, [n].
    """

    files: tuple[Path, ...]
    labels: Tensor

    def image(self, index: int) -> Tensor:
        """Return an image, whatever its mode: uint8, [3, height, width]; see ``pixels``."""
        return pixels.read(self.files[index]).image


@dataclass(frozen=True)
class SplitSubset:
    """Some images of a split."""

    split: Split
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        """Labels of the chosen, int64, [n]."""
        return self.split.labels[self.indices]

    def image(self, index: int) -> Tensor:
        """Return an image: uint8, [3, height, width]."""
        return self.split.image(int(self.indices[index]))


@dataclass(frozen=True)
class ImageData:
    """A data set with its three splits; the test split is read once, at the end of a trial.

    Attributes:
        train: what is trained on.
        validation: what tries and curves are read on.
        test: what results are read on.
        facts: what a record says about the data.
        notes: what a reader of the numbers must know.
    """

    train: Split
    validation: Split
    test: Split
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def carve(
    split: Split, share: float, alike: Tensor | None = None
) -> tuple[SplitSubset, SplitSubset]:
    """Return a split without some of its images, and those; each class gives its share.

    Which ones they are depends on the labels alone, and is the same in every trial.

    Args:
        split: what is carved from.
        share: of each class's images.
        alike: int64 [n], the same number for images of a class that are copies of each other, and
            so stay together; every image is another unless said.

    Raises:
        BadInput: a class has a single image, and none to give.
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
                "than two"
            )
        count = max(1, round(share * len(images)))
        chosen = images[torch.randperm(len(images), generator=generator)[:count]]
        taken[own[torch.isin(numbers[own], chosen)]] = True
    return SplitSubset(split, (~taken).nonzero().flatten()), SplitSubset(
        split, taken.nonzero().flatten()
    )


def _in_order(numbers: Tensor) -> Tensor:
    """Return each number once, in the order in which they first stand."""
    return torch.tensor(list(dict.fromkeys(numbers.tolist())), dtype=numbers.dtype)


def require_labels(labels: Tensor, classes: Sequence[str], where: str) -> None:
    """Check that labels [n] name classes, and that no class is without images.

    Raises:
        BadInput: they do not, or one is.
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
