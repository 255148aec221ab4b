"""The private parts of torchvision's data sets that this project uses, under names of its own.

The rules of ``eager_internals`` apply. torchvision has the names and hashes of most archives, and
the lists of files in an opened data set, only under private names.
"""

from collections.abc import Iterable
from typing import Any

from torchvision import datasets


def pets_archives() -> Iterable[tuple[str, str]]:
    """Return the address and MD5 of each archive of Oxford-IIIT Pet; there is no public name."""
    archives: Iterable[tuple[str, str]] = datasets.OxfordIIITPet._RESOURCES
    return archives


def flowers_files() -> Iterable[tuple[str, str]]:
    """Return the name and MD5 of each file of Flowers-102; there is no public name."""
    files: Iterable[tuple[str, str]] = datasets.Flowers102._file_dict.values()
    return files


def food_archive() -> tuple[str, str]:
    """Return the address and MD5 of Food-101's archive; there is no public name."""
    return datasets.Food101._URL, datasets.Food101._MD5


def aircraft_archive() -> str:
    """Return the address of FGVC Aircraft's archive; there is no public name."""
    address: str = datasets.FGVCAircraft._URL
    return address


def listed_files(opened: Any) -> list[Any]:
    """Return the image files of an opened data set, without decoding them as public ways do."""
    files: list[Any] = opened._images if hasattr(opened, "_images") else opened._image_files
    return files


def listed_labels(opened: Any) -> list[int]:
    """Return the labels in the order of ``listed_files``, without decoding the images."""
    return list(opened._labels)
