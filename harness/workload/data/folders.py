"""Data sets in folders, one a class: torchvision's ``ImageFolder`` layout."""

from collections.abc import Collection
from pathlib import Path

import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from harness.errors import BadInput
from harness.workload.data.decodable import decodable
from harness.workload.data.root import how_to_choose
from harness.workload.data.splits import (
    VALIDATION_SHARE,
    ImageData,
    InFiles,
    Split,
    carve,
    require_labels,
)

TEST_SHARE = 0.2  # of all images, where the folder has no splits of its own
VALIDATION = ("validation", "val", "valid")


def class_names(folder: Path) -> list[str]:
    """Return the names of a folder's classes: its training part's subfolders, sorted.

    Raises:
        BadInput: there is no such folder, or none in it.
    """
    if not folder.is_dir():
        raise BadInput(f"no data folder {folder.name!r}; {how_to_choose()}")
    train = folder / "train" if (folder / "train").is_dir() else folder
    if found := sorted(path.name for path in train.iterdir() if path.is_dir()):
        return found
    raise BadInput(f"{train.name}/ has no folders; expected one for each class, with images in it")


def load(folder: Path) -> ImageData:
    """Return a folder's images, those left out that do not decode.

    Splits are its own (``train``, ``test``, ``validation`` or ``val``); what is missing is carved:
    a test split only where the classes lie at the top.

    Raises:
        BadInput: nothing there, no images, or a class without any.
    """
    classes = class_names(folder)
    files = _images(folder)
    if not files:
        raise BadInput(f"{folder.name}/ has no images ({', '.join(IMG_EXTENSIONS)})")
    found = decodable(folder, files)
    good = found.good
    if (folder / "train").is_dir():
        if not (folder / "test").is_dir():
            raise BadInput(f"{folder.name}/ has train/ and no test/")
        train: Split = _split(folder / "train", classes, good)
        test: Split = _split(folder / "test", classes, good)
    else:
        train, test = carve(_split(folder, classes, good), TEST_SHARE)
    own = next((folder / name for name in VALIDATION if (folder / name).is_dir()), None)
    if own is not None:
        validation: Split = _split(own, classes, good)
    else:
        train, validation = carve(train, VALIDATION_SHARE)
    facts = {"name": folder.name} | found.facts()
    return ImageData(train, validation, test, facts, found.notes())


def _split(folder: Path, classes: list[str], good: Collection[Path]) -> InFiles:
    if strange := sorted({p.name for p in folder.iterdir() if p.is_dir()} - set(classes)):
        raise BadInput(f"{folder.name}/ has classes that train/ has not: {', '.join(strange)}")
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in _images(folder / name)
        if path in good
    ]
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    require_labels(labels, classes, f"{folder.parent.name}/{folder.name}")
    return InFiles(tuple(path for path, _ in files), labels)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS)
