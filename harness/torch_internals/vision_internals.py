"""The unpublished parts of torchvision's data sets that this project relies on, under our names.

As in ``torch_internals``. torchvision keeps names and hashes of most archives, and the lists of
files it found in them, under private names only.
"""

from collections.abc import Iterable
from typing import Any

from torchvision import datasets


def pets_archives() -> Iterable[tuple[str, str]]:
    """Return address and MD5 of each archive of Oxford-IIIT Pet, published nowhere else."""
    archives: Iterable[tuple[str, str]] = datasets.OxfordIIITPet._RESOURCES
    return archives


def flowers_files() -> Iterable[tuple[str, str]]:
    """Return name and MD5 of each file of Flowers-102, which is published nowhere else."""
    files: Iterable[tuple[str, str]] = datasets.Flowers102._file_dict.values()
    return files


def food_archive() -> tuple[str, str]:
    """Return address and MD5 of Food-101's archive, which is published nowhere else."""
    return datasets.Food101._URL, datasets.Food101._MD5


def aircraft_archive() -> str:
    """Return the address of FGVC Aircraft's archive, which is published nowhere else."""
    address: str = datasets.FGVCAircraft._URL
    return address


def listed_files(opened: Any) -> list[Any]:
    """Return the image files of an opened data set; a public pass over it would decode them all."""
    files: list[Any] = opened._images if hasattr(opened, "_images") else opened._image_files
    return files


def listed_labels(opened: Any) -> list[int]:
    """Return the labels of those files, in their order; a public pass would decode the images."""
    return list(opened._labels)
