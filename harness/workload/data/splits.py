"""Images and labels, in memory or in files, and how one set becomes three splits."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from harness.errors import BadInput

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
        """Return an image."""
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
        """Return an image; grey ones get three equal channels, transparency goes."""
        return decode(self.files[index])


@dataclass(frozen=True)
class Chosen:
    """Some images of a split."""

    split: Split
    indices: Tensor

    @property
    def labels(self) -> Tensor:
        """Labels of the chosen."""
        return self.split.labels[self.indices]

    def image(self, index: int) -> Tensor:
        """Return an image."""
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


def decode(file: Path) -> Tensor:
    """Return a file's image as uint8 [3, height, width].

    Raises:
        BadInput: it does not decode.
    """
    try:
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            pixels: Tensor = pil_to_tensor(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{file}: not an image that can be decoded ({error})") from error
    return pixels


def carve(split: Split, share: float) -> tuple[Split, Split]:
    """Return a split without some of its images, and those; each class gives its share.

    Which ones they are depends on the labels alone, and is the same in every trial.

    Raises:
        BadInput: a class has a single image, and none to give.
    """
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    taken = torch.zeros(len(split.labels), dtype=torch.bool)
    for label in split.labels.unique():
        own = (split.labels == label).nonzero().flatten()
        if len(own) == 1:
            raise BadInput(
                f"class {int(label)} has one image; a split cannot be carved from fewer than two"
            )
        count = max(1, round(share * len(own)))
        taken[own[torch.randperm(len(own), generator=generator)[:count]]] = True
    return Chosen(split, (~taken).nonzero().flatten()), Chosen(split, taken.nonzero().flatten())


def require_labels(labels: Tensor, classes: Sequence[str], where: str) -> None:
    """Check that labels name classes, and that no class is without images.

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
