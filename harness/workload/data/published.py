"""Published data sets that the papers use, read by torchvision, with their published splits."""

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import datasets
from torchvision.datasets.utils import check_integrity

from bsrbench.harness.errors import BadInput
from bsrbench.harness.torch_internals.vision_internals import (
    aircraft_archive,
    flowers_files,
    food_archive,
    listed_files,
    listed_labels,
    pets_archives,
)
from bsrbench.harness.workload.data.data_folder import how_to_choose
from bsrbench.harness.workload.data.decodable import Decodable, decodable
from bsrbench.harness.workload.data.splits import (
    VALIDATION_SHARE,
    ImageData,
    InFiles,
    InMemory,
    Split,
    carve,
    require_labels,
)

Make = Callable[..., Any]
DAMAGES = (OSError, EOFError, ValueError, KeyError)  # from damaged lists and labels on disk


@dataclass(frozen=True)
class Published:
    """How torchvision reads a data set.

    Attributes:
        make: torchvision's class of the data set.
        classes: number of classes.
        folder: folder of the data set, relative to the data root.
        archives: the downloaded files, relative to the data root, with their MD5 if published.
        train: arguments of torchvision's class for the training images.
        test: arguments for the test images.
        validation: arguments for the validation images; ``None`` if no validation split is
            published. Then one is carved from the training images.
    """

    make: Make
    classes: int
    folder: str
    archives: dict[str, str | None]
    train: dict[str, Any]
    test: dict[str, Any]
    validation: dict[str, Any] | None = None


def _by_name(train: str, validation: str | None = None) -> dict[str, dict[str, Any]]:
    parts = {"train": {"split": train}, "test": {"split": "test"}}
    return parts | ({"validation": {"split": validation}} if validation else {})


def _last(url: str) -> str:
    return url.rpartition("/")[2]


PETS: dict[str, str | None] = {f"oxford-iiit-pet/{_last(u)}": md5 for u, md5 in pets_archives()}
FLOWERS: dict[str, str | None] = {f"flowers-102/{file}": md5 for file, md5 in flowers_files()}
FOOD: dict[str, str | None] = {_last(u): md5 for u, md5 in [food_archive()]}
AIRCRAFT: dict[str, str | None] = {_last(aircraft_archive()): None}


def _cifar(make: type[datasets.CIFAR10], classes: int) -> Published:
    archives = {make.filename: make.tgz_md5}
    return Published(make, classes, make.base_folder, archives, {"train": True}, {"train": False})


DATA_SETS = {
    "cifar10": _cifar(datasets.CIFAR10, 10),
    "cifar100": _cifar(datasets.CIFAR100, 100),
    "pets": Published(datasets.OxfordIIITPet, 37, "oxford-iiit-pet", PETS, **_by_name("trainval")),
    "flowers102": Published(
        datasets.Flowers102, 102, "flowers-102", FLOWERS, **_by_name("train", "val")
    ),
    "food101": Published(datasets.Food101, 101, "food-101", FOOD, **_by_name("train")),
    "aircraft": Published(
        datasets.FGVCAircraft, 100, "fgvc-aircraft-2013b", AIRCRAFT, **_by_name("train", "val")
    ),
}


def fetch(name: str, root: Path) -> None:
    """Download a data set if it is missing, with torchvision's progress bar.

    Raises:
        BadInput: the data set is damaged, or is missing and cannot be downloaded.
    """
    published = DATA_SETS[name]
    if _is_there(name, published, root):
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with archives_that_stay_inside():
            published.make(str(root), download=True, **published.train)
            published.make(str(root), download=True, **published.test)
    # torchvision downloads with several libraries, and each has its own types of network errors.
    except Exception as error:
        wrong = [file for file in published.archives if _is_wrong(root, published, file)]
        instead = f"; these files are damaged or are not the published ones: {', '.join(wrong)}"
        raise BadInput(
            f"{name} is not below {root.resolve()} and cannot be downloaded "
            f"({type(error).__name__}: {error}){instead if wrong else ''}; on a machine without a "
            f"network, copy {' and '.join(published.archives)} into this folder; "
            f"torchvision.datasets.{published.make.__name__} unpacks them; {how_to_choose()}"
        ) from error


def _is_there(name: str, published: Published, root: Path) -> bool:
    """Return whether torchvision finds the data set.

    Raises:
        BadInput: files of the data set exist but cannot be read.
    """
    try:
        for arguments in (published.train, published.test):
            _open(published, root, arguments)
    except RuntimeError:
        return False
    except DAMAGES as error:
        raise _damaged(name, published, root, error) from error
    return True


def _is_wrong(root: Path, published: Published, file: str) -> bool:
    """Return whether an archive exists that is damaged, or that has no MD5 to check it with."""
    md5 = published.archives[file]
    return (root / file).is_file() and not (md5 and check_integrity(str(root / file), md5))


def _damaged(name: str, published: Published, root: Path, error: Exception) -> BadInput:
    what = f"{name} cannot be read below {root.resolve()}: {type(error).__name__}: {error}"
    return BadInput(f"{what}; {_how_to_mend(published, root)}")


def _how_to_mend(published: Published, root: Path) -> str:
    folder = root.resolve() / published.folder
    return f"remove {folder}, so that it is unpacked or downloaded again"


@contextmanager
def archives_that_stay_inside() -> Iterator[None]:
    """Prevent archives from writing outside their folder while this context is open.

    Archives can also not create devices or links to the outside. This is necessary because
    torchvision unpacks every downloaded archive, and not every data set has a published hash.
    """
    before = tarfile.TarFile.extraction_filter
    tarfile.TarFile.extraction_filter = staticmethod(tarfile.data_filter)
    try:
        yield
    finally:
        tarfile.TarFile.extraction_filter = before


def load(name: str, root: Path) -> ImageData:
    """Return a data set that is already downloaded; images that do not decode are left out.

    Raises:
        BadInput: the data set is missing, or its files are damaged.
    """
    published = DATA_SETS[name]
    asked = [published.train, published.test, *filter(None, [published.validation])]
    try:
        opened = [_open(published, root, arguments) for arguments in asked]
    except (RuntimeError, *DAMAGES) as error:
        raise _damaged(name, published, root, error) from error
    if isinstance(getattr(opened[0], "data", None), np.ndarray):
        splits: list[Split] = [_in_memory(split) for split in opened]
        facts: dict[str, Any] = {"images": sum(len(split.labels) for split in splits)}
        notes: tuple[str, ...] = ()
    else:
        listed = [_listed(split) for split in opened]
        decoded = _decodable(published, root, {f for files, _ in listed for f in files})
        splits = [_in_files(files, labels, decoded) for files, labels in listed]
        facts, notes = decoded.facts(), decoded.notes()
    for split, arguments, dataset in zip(splits, asked, opened, strict=True):
        where = f"{name}, {' '.join(map(str, arguments.values()))}"
        require_labels(split.labels, _class_names(published, dataset), where)
    train, test, *rest = splits
    train, validation = (train, *rest) if rest else carve(train, VALIDATION_SHARE)
    return ImageData(train, validation, test, {"name": name} | facts, notes)


def _open(published: Published, root: Path, arguments: dict[str, Any]) -> Any:
    return published.make(str(root), download=False, **arguments)


def _in_memory(opened: Any) -> InMemory:
    images = torch.from_numpy(np.ascontiguousarray(opened.data)).permute(0, 3, 1, 2)
    return InMemory(images, torch.tensor(opened.targets, dtype=torch.int64))


def _listed(opened: Any) -> tuple[list[Path], list[int]]:
    return [Path(file) for file in listed_files(opened)], listed_labels(opened)


def _decodable(published: Published, root: Path, files: set[Path]) -> Decodable:
    try:
        return decodable(root / published.folder, files)
    except BadInput as error:
        raise BadInput(f"{error}; {_how_to_mend(published, root)}") from error


def _in_files(files: list[Path], labels: list[int], decoded: Decodable) -> InFiles:
    kept = [pair for pair in zip(files, labels, strict=True) if pair[0] in decoded.good]
    targets = torch.tensor([label for _, label in kept], dtype=torch.int64)
    return InFiles(tuple(file for file, _ in kept), targets)


def _class_names(published: Published, opened: Any) -> list[str]:
    """Return the names of all classes; their numbers if the list of names is not complete."""
    names = [str(name) for name in getattr(opened, "classes", ())]
    numbers = [f"number {number}" for number in range(published.classes)]
    return names if len(names) == published.classes else numbers
