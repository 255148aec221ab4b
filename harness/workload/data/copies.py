"""Find copies of images, because a copy of a training image must not be in the test split."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bsrbench.harness.workload.data.decodable import some


def numbers(
    files: Sequence[Path], labels: Sequence[int], alike: Iterable[Collection[Path]]
) -> Tensor:
    """Return a number for each image, the same for copies in one class: the first one's place.

    Args:
        files: the images.
        labels: their classes.
        alike: groups of files with the same pixels, whatever their classes.

    Returns:
        int64, [n].
    """
    group_of = {file: group for group, members in enumerate(alike) for file in members}
    first: dict[tuple[int, int], int] = {}
    found = list(range(len(files)))
    for place, (file, label) in enumerate(zip(files, labels, strict=True)):
        if file in group_of:
            found[place] = first.setdefault((group_of[file], label), place)
    return torch.tensor(found, dtype=torch.int64)


def classes_of_one(alike: Tensor, labels: Tensor) -> list[int]:
    """Return the classes that have one image and copies of it.

    Args:
        alike: a number for each image, the same for copies: [n].
        labels: [n].
    """
    found = []
    for label in labels.unique():
        own = alike[labels == label]
        if len(own) > 1 == len(own.unique()):
            found.append(int(label))
    return found


def told_apart(alike: Tensor, labels: Tensor) -> Tensor:
    """Return numbers in which a class of one image and its copies has as many as it has copies.

    Args:
        alike: a number for each image, the same for copies: [n].
        labels: [n].

    Returns:
        [n].
    """
    apart = torch.isin(labels, torch.tensor(classes_of_one(alike, labels), dtype=labels.dtype))
    # Beyond all numbers there are.
    return torch.where(apart, torch.arange(len(labels)) + alike.max() + 1, alike)


def notes(names: Sequence[str], alike: Tensor, classes: Sequence[str]) -> tuple[str, ...]:
    """Return what a reader of the numbers must know.

    Args:
        names: of the images.
        alike: their numbers, [n].
        classes: names of those that have one image and copies of it.
    """
    found = [name for place, name in enumerate(names) if int(alike[place]) != place]
    if not found:
        return ()
    said = (
        f"{len(found)} of {len(names)} images are copies of others of their class, and lie in the "
        f"same split: {some(found)}"
    )
    if not classes:
        return (said,)
    return (said, f"all images are copies of one, in every split, of the classes {some(classes)}")
