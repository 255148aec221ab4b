"""Find copies of images, because a copy of a training image must not be in the test split."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bsrbench.harness.workload.data.decodable import some


def numbers(
    files: Sequence[Path], labels: Sequence[int], alike: Iterable[Collection[Path]]
) -> Tensor:
    """Return one number per image; images of one class that are copies have the same number.

    The number of an image is its own index, or for a copy the index of the first of the copies.

    Args:
        files: the images.
        labels: the class of each image.
        alike: groups of files with the same pixels, of any class.

    Returns:
        int64, [n].
    """
    group_of = {file: group for group, members in enumerate(alike) for file in members}
    first: dict[tuple[int, int], int] = {}
    image_numbers = list(range(len(files)))
    for place, (file, label) in enumerate(zip(files, labels, strict=True)):
        if file in group_of:
            image_numbers[place] = first.setdefault((group_of[file], label), place)
    return torch.tensor(image_numbers, dtype=torch.int64)


def classes_of_one(alike: Tensor, labels: Tensor) -> list[int]:
    """Return the classes in which all images are copies of one image.

    Args:
        alike: one number per image, the same for copies: [n].
        labels: class of each image, [n].
    """
    copied_classes = []
    for label in labels.unique():
        own = alike[labels == label]
        if len(own) > 1 == len(own.unique()):
            copied_classes.append(int(label))
    return copied_classes


def told_apart(alike: Tensor, labels: Tensor) -> Tensor:
    """Give every image of a class that has only copies of one image a number of its own.

    Args:
        alike: one number per image, the same for copies: [n].
        labels: class of each image, [n].

    Returns:
        The changed numbers, [n].
    """
    apart = torch.isin(labels, torch.tensor(classes_of_one(alike, labels), dtype=labels.dtype))
    # The new numbers are larger than all existing ones.
    return torch.where(apart, torch.arange(len(labels)) + alike.max() + 1, alike)


def notes(names: Sequence[str], alike: Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    """Return notes about copies for a reader of the results.

    Args:
        names: name of each image.
        alike: one number per image, the same for copies: [n].
        classes: names of the classes in which all images are copies of one image.
    """
    copied = [name for place, name in enumerate(names) if int(alike[place]) != place]
    if not copied:
        return ()
    message = (
        f"{len(copied)} of {len(names)} images are copies of other images of their class; copies "
        f"are in the same split: {some(copied)}"
    )
    if not classes:
        return (message,)
    shared = (
        "the training and validation splits share images, because all images of these classes are "
        f"copies of one image: {some(classes)}"
    )
    return (message, shared)
