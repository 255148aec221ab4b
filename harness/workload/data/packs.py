"""Data sets in one ``.npz`` file: x_train, y_train, x_test, y_test, classes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bsrbench.harness.errors import BadInput, shortened
from bsrbench.harness.files import sha256_of
from bsrbench.harness.workload import npz
from bsrbench.harness.workload.data.data_folder import how_to_choose
from bsrbench.harness.workload.data.splits import (
    VALIDATION_SHARE,
    ImageData,
    InMemory,
    carve,
    require_labels,
)

KEYS = ("x_train", "y_train", "x_test", "y_test", "classes")
IMAGE_DIMENSIONS = 4
CHANNELS = 3  # red, green, blue
MOST_CLASSES = 100_000
NAMES = "USbiuf"  # kinds of numpy dtypes that class names can have


def class_names(file: Path) -> list[str]:
    """Return the names of a pack's classes.

    Raises:
        BadInput: the file is missing or is not a pack.
    """
    return [str(name) for name in _read(file, ("classes",))["classes"]]


def load(file: Path) -> ImageData:
    """Return a pack's images; the validation split is carved from the training images.

    Raises:
        BadInput: the file is missing or damaged, or its arrays are not as expected.
    """
    arrays = _read(file, KEYS)
    classes = [str(name) for name in arrays["classes"]]
    train, test = (_split(file, arrays, part, classes) for part in ("train", "test"))
    rest, validation = carve(train, VALIDATION_SHARE)
    facts = {
        "name": file.name,
        "sha256": sha256_of(file),
        "images": len(train.labels) + len(test.labels),
    }
    return ImageData(rest, validation, test, facts)


def _read(file: Path, keys: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    if not os.path.isfile(file):  # noqa: PTH113 - pathlib's raises where a name is too long
        raise BadInput(f"no data file {shortened(file.name)!r}; {how_to_choose()}")
    try:
        _require_memory(file)
        arrays, there = npz.arrays(file, keys)
    except BadInput:
        raise
    except Exception as error:
        # numpy and zipfile raise errors of many types for damaged files. An array of Python
        # objects is an error, too, because only pickle could restore it.
        raise BadInput(f"{file.name} cannot be read as a pack ({npz.reason(error)})") from error
    if missing := [key for key in keys if key not in arrays]:
        listed = shortened(", ".join(there))
        raise BadInput(f"{file.name} lacks {', '.join(missing)}; it has {listed}")
    names = arrays["classes"]
    if names.ndim != 1 or len(names) > MOST_CLASSES or names.dtype.kind not in NAMES:
        raise BadInput(
            f"{file.name}: the array classes has type {names.dtype} and shape {list(names.shape)}, "
            f"expected a list of at most {MOST_CLASSES:,} texts or numbers"
        )
    return arrays


def _require_memory(file: Path) -> None:
    """Check that a pack's arrays fit into the memory of this machine.

    Raises:
        BadInput: they do not fit.
        Exception: see ``npz.unpacked_bytes``.
    """
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    npz.require_bytes(file, there, f"the memory of this machine ({there / npz.GIB:.1f} GiB)")


def _require_images(images: NDArray[Any], where: str) -> None:
    """Check that an array contains 8-bit images; other types do not define the value of white.

    Raises:
        BadInput: it contains something else.
    """
    got = f"{where}: images are {images.dtype} {list(images.shape)}, expected uint8"
    if images.ndim != IMAGE_DIMENSIONS or images.shape[3] != CHANNELS or 0 in images.shape[1:3]:
        raise BadInput(f"{got} [n, height, width, {CHANNELS}]")
    if images.dtype != np.uint8:
        raise BadInput(
            f"{got} [n, height, width, {CHANNELS}]: scale the values so that 0 is black and 255 "
            "is white, round them, and save them as uint8"
        )


def _split(file: Path, arrays: dict[str, NDArray[Any]], part: str, classes: list[str]) -> InMemory:
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    where = f"{file.name}, {part}"
    _require_images(images, where)
    if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise BadInput(
            f"{where}: labels are {labels.dtype} {list(labels.shape)}, "
            f"expected integers [{len(images)}], one per image"
        )
    targets = torch.from_numpy(labels.astype(np.int64))
    require_labels(targets, classes, where)
    return InMemory(torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2), targets)
