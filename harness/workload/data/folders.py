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

TEST_SHARE = 0.2  # of all images, where the folder has no splits of its own
TRAIN, TEST = "train", "test"
VALIDATION = ("validation", "val", "valid")
SPLITS = frozenset({TRAIN, TEST, *VALIDATION, "training", "testing"})


def class_names(folder: Path) -> list[str]:
    """Return the names of a folder's classes: its training part's subfolders, sorted.

    Hidden folders, and those that systems leave behind, are no classes.

    Raises:
        BadInput: there is no such folder, none in it, or splits whose training part is missing.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - pathlib's raises where a name is too long
        raise BadInput(f"no data folder {shortened(folder.name)!r}; {how_to_choose()}")
    train = folder / TRAIN if (folder / TRAIN).is_dir() else folder
    found = folders_in(train)
    if not found:
        raise BadInput(
            f"{train.name}/ has no folders; expected one for each class, with images in it"
        )
    if train == folder and {name.lower() for name in found} <= SPLITS:
        raise BadInput(
            f"{folder.name}/ has {', '.join(f'{name}/' for name in found)} and no {TRAIN}/: call "
            f"the splits {TRAIN}, {TEST} and {VALIDATION[0]}"
        )
    return found


@dataclass(frozen=True)
class _Part:
    """The images of one split that a folder has itself, or of all of it.

    Attributes:
        split: they.
        alike: int64 [n], the same number for images of a class that are copies of each other.
    """

    split: InFiles
    alike: Tensor


def load(folder: Path) -> ImageData:
    """Return a folder's images, those left out that do not decode.

    Splits are its own (``train``, ``test``, ``validation`` or ``val``); what is missing is carved:
    a test split only where the classes lie at the top. Copies of an image stay in one split.

    Raises:
        BadInput: nothing there, no images, a class without any, or pixels of unknown colours.
    """
    classes = class_names(folder)
    listing = list_images(folder)
    places = _places(folder)
    labelled = {part: _labelled(place, classes, listing) for part, place in places.items()}
    used = [file for files in labelled.values() for file, _ in files]
    if not used:
        raise BadInput(f"{folder.name}/ has no images ({', '.join(IMG_EXTENSIONS)})")
    found = decodable(folder, used)
    own = {part: _part(places[part], classes, files, found) for part, files in labelled.items()}
    facts = {"name": folder.name} | found.facts()
    notes = (*found.notes(), *listing.notes(used), *_notes_of_copies(own, classes, folder))
    return ImageData(*_carved(own), facts, notes)


def _places(folder: Path) -> dict[str, Path]:
    """Return where the images of each split lie; ``train`` is the folder where it has no splits.

    Raises:
        BadInput: there are training images, and no others to test on.
    """
    if not (folder / TRAIN).is_dir():
        return {TRAIN: folder}
    if not (folder / TEST).is_dir():
        raise BadInput(f"{folder.name}/ has {TRAIN}/ and no {TEST}/")
    places = {TRAIN: folder / TRAIN, TEST: folder / TEST}
    for name in VALIDATION:
        if (folder / name).is_dir():
            return places | {VALIDATION[0]: folder / name}
    return places


def _labelled(place: Path, classes: list[str], listing: Listing) -> list[tuple[Path, int]]:
    """Return the images in the folders of classes, class by class, and their labels.

    Raises:
        BadInput: there is a folder of another class.
    """
    if strange := sorted(set(folders_in(place)) - set(classes)):
        raise BadInput(f"{place.name}/ has classes that train/ has not: {', '.join(strange)}")
    label_of = {place / name: label for label, name in enumerate(classes)}
    depth = len(place.parts)
    found = [(file, label_of.get(Path(*file.parts[: depth + 1]))) for file in listing.images]
    return sorted(
        ((file, label) for file, label in found if label is not None),
        key=lambda pair: (pair[1], pair[0]),
    )


def _part(
    place: Path, classes: list[str], labelled: list[tuple[Path, int]], found: Decodable
) -> _Part:
    """Return the images of a place that decode.

    Raises:
        BadInput: a class has none.
    """
    good = [(file, label) for file, label in labelled if file in found.good]
    labels = torch.tensor([label for _, label in good], dtype=torch.int64)
    require_labels(labels, classes, f"{place.parent.name}/{place.name}")
    files = tuple(file for file, _ in good)
    return _Part(InFiles(files, labels), copies.numbers(files, labels.tolist(), found.alike))


def _carved(own: dict[str, _Part]) -> tuple[Split, Split, Split]:
    """Return the images to train on, to validate and to test; what is missing is carved."""
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
    """Return what there is to say of copies, where something is carved from among them."""
    if VALIDATION[0] in own:
        return ()
    part = own[TRAIN]
    names = [str(file.relative_to(folder)) for file in part.split.files]
    alone = copies.classes_of_one(part.alike, part.split.labels)
    return copies.notes(names, part.alike, [classes[label] for label in alone])
