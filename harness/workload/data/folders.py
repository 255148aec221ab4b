"""Data sets with one folder per class: torchvision's ``ImageFolder`` layout."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.workload.data import copies
from bsrbench.harness.workload.data.data_folder import how_to_choose
from bsrbench.harness.workload.data.decodable import Decodable, decodable
from bsrbench.harness.workload.data.listing import Listing, folders_in, list_images
from bsrbench.harness.workload.data.splits import (
    VALIDATION_SHARE,
    ImageData,
    InFiles,
    Split,
    carve,
    require_labels,
)

TEST_SHARE = 0.2  # fraction of all images, if the folder has no splits of its own
TRAIN, TEST = "train", "test"
VALIDATION = ("validation", "val", "valid")
SPLITS = frozenset({TRAIN, TEST, *VALIDATION, "training", "testing"})


def class_names(folder: Path) -> list[str]:
    """Return the names of a folder's classes, sorted: the subfolders of its training split.

    Hidden folders, and folders that operating systems create, are not classes.

    Raises:
        BadInput: the folder does not exist, has no subfolders, or has splits but no training split.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - pathlib's raises where a name is too long
        raise BadInput(f"no data folder {shortened(folder.name)!r}; {how_to_choose()}")
    train = folder / TRAIN if (folder / TRAIN).is_dir() else folder
    names = folders_in(train)
    if not names:
        raise BadInput(
            f"{train.name}/ has no folders; expected one folder per class, with images in it"
        )
    if train == folder and {name.lower() for name in names} <= SPLITS:
        raise BadInput(
            f"{folder.name}/ has {', '.join(f'{name}/' for name in names)}, but no {TRAIN}/: name "
            f"the splits {TRAIN}, {TEST} and {VALIDATION[0]}"
        )
    return names


@dataclass(frozen=True)
class _Part:
    """The images of a folder's own split, or of the whole folder if it has no splits.

    Attributes:
        split: the images.
        alike: int64 [n], the same number for images of one class that are copies of each other.
    """

    split: InFiles
    alike: Tensor


def load(folder: Path) -> ImageData:
    """Return the images of a folder as three splits; images that do not decode are left out.

    The folder can have the splits ``train``, ``test`` and ``validation`` (or ``val``, ``valid``). A
    missing validation split is carved from the training images. A test split is carved only if the
    class folders are at the top level. Copies of an image stay in one split.

    Raises:
        BadInput: the folder does not exist, the folder or a class has no images, or the colours of
            an image are not defined.
    """
    classes = class_names(folder)
    listing = list_images(folder)
    places = _places(folder)
    labelled = {part: _labelled(place, classes, listing) for part, place in places.items()}
    used = [file for files in labelled.values() for file, _ in files]
    if not used:
        raise BadInput(f"{folder.name}/ has no images ({', '.join(IMG_EXTENSIONS)})")
    decoded = decodable(folder, used)
    own = {part: _part(places[part], classes, files, decoded) for part, files in labelled.items()}
    facts = {"name": folder.name} | decoded.facts()
    notes = (*decoded.notes(), *listing.notes(used), *_notes_of_copies(own, classes, folder))
    return ImageData(*_carved(own), facts, notes)


def _places(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; without splits, the whole folder is ``train``.

    Raises:
        BadInput: there is a training split, but no test split.
    """
    if not (folder / TRAIN).is_dir():
        return {TRAIN: folder}
    if not (folder / TEST).is_dir():
        raise BadInput(f"{folder.name}/ has {TRAIN}/, but no {TEST}/")
    places = {TRAIN: folder / TRAIN, TEST: folder / TEST}
    for name in VALIDATION:
        if (folder / name).is_dir():
            return places | {VALIDATION[0]: folder / name}
    return places


def _labelled(place: Path, classes: list[str], listing: Listing) -> list[tuple[Path, int]]:
    """Return the images in the class folders of a split with their labels, sorted by class.

    Raises:
        BadInput: a folder is not one of the classes.
    """
    if strange := sorted(set(folders_in(place)) - set(classes)):
        raise BadInput(f"{place.name}/ has classes that train/ does not have: {', '.join(strange)}")
    label_of = {place / name: label for label, name in enumerate(classes)}
    depth = len(place.parts)
    labelled = [(file, label_of.get(Path(*file.parts[: depth + 1]))) for file in listing.images]
    return sorted(
        ((file, label) for file, label in labelled if label is not None),
        key=lambda pair: (pair[1], pair[0]),
    )


def _part(
    place: Path, classes: list[str], labelled: list[tuple[Path, int]], decoded: Decodable
) -> _Part:
    """Return the images of a split's folder that decode.

    Raises:
        BadInput: a class has no image that decodes.
    """
    good = [(file, label) for file, label in labelled if file in decoded.good]
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    require_labels(labels, classes, f"{place.parent.name}/{place.name}")
    files = tuple(file for file, _ in good)
    return _Part(InFiles(files, labels), copies.numbers(files, labels.tolist(), decoded.alike))


def _carved(own: dict[str, _Part]) -> tuple[Split, Split, Split]:
    """Return the training, validation and test split; missing splits are carved from training."""
    train: Split = own[TRAIN].split
    alike = own[TRAIN].alike
    test: Split
    if TEST in own:
        test = own[TEST].split
    else:
        rest, test = carve(train, TEST_SHARE, alike)
        train, alike = rest, alike[rest.indices]
    if VALIDATION[0] in own:
        return train, own[VALIDATION[0]].split, test
    train, validation = carve(train, VALIDATION_SHARE, copies.told_apart(alike, train.labels))
    return train, validation, test


def _notes_of_copies(own: dict[str, _Part], classes: list[str], folder: Path) -> tuple[str, ...]:
    """Return notes about copies, if a split is carved from the images that contain them."""
    if VALIDATION[0] in own:
        return ()
    part = own[TRAIN]
    names = [str(file.relative_to(folder)) for file in part.split.files]
    alone = copies.classes_of_one(part.alike, part.split.labels)
    return copies.notes(names, part.alike, [classes[label] for label in alone])
