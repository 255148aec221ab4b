"""Data sets by name: check a name, download a data set, and load its three splits.

A name is a small built-in data set (``digits``, ``noise``), a published data set that torchvision
reads (``cifar10`` ...), ``pack:FILE.npz`` or ``folder:FOLDER``. Files must be below the data root.
"""

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.workload.data import builtin_data, folders, packs, published
from bsrbench.harness.workload.data.data_folder import below_root, data_root
from bsrbench.harness.workload.data.splits import ImageData, Split

__all__ = ["ImageData", "Split", "check_name", "classes", "data_root", "fetch", "load", "names"]

PACK, FOLDER = "pack:", "folder:"


def names() -> list[str]:
    """Return the known names, and the two forms for the user's own data."""
    return [*builtin_data.NAMES, *published.DATA_SETS, f"{PACK}FILE.npz", f"{FOLDER}FOLDER"]


def check_name(name: str) -> None:
    """Check that a data set's name has one of the known forms.

    Raises:
        BadInput: the name has another form, or its path is outside the data root.
    """
    if name in {*builtin_data.NAMES, *published.DATA_SETS}:
        return
    if not (name.startswith((PACK, FOLDER)) and name.partition(":")[2]):
        raise unknown("data set", name, names())
    below_root(name.partition(":")[2])


def classes(name: str, asked: int | None) -> int:
    """Return the number of classes of a data set; for ``noise``, the number ``asked``.

    Raises:
        BadInput: the name is unknown, the file does not exist, or the data set does not have
            ``asked`` classes.
    """
    check_name(name)
    if name == "noise":
        return asked or builtin_data.NOISE_CLASSES
    if name == "digits":
        there = builtin_data.DIGITS_CLASSES
    elif name in published.DATA_SETS:
        there = published.DATA_SETS[name].classes
    elif name.startswith(PACK):
        there = len(packs.class_names(below_root(name.removeprefix(PACK))))
    else:
        there = len(folders.class_names(below_root(name.removeprefix(FOLDER))))
    if asked not in {None, there}:
        raise BadInput(f"{name!r} has {there} classes, not {asked}")
    return there


def fetch(name: str) -> None:
    """Download a published data set if it is missing; other data sets are not downloaded.

    Raises:
        BadInput: the name is unknown, or the data set is missing and cannot be downloaded.
    """
    check_name(name)
    if name in published.DATA_SETS:
        published.fetch(name, data_root())


def load(name: str, classes: int | None, seed: int) -> ImageData:
    """Return a data set by name; only ``noise`` uses the number of classes and the seed.

    Raises:
        BadInput: the name is unknown, or files are missing or cannot be used.
    """
    check_name(name)
    if name == "digits":
        return builtin_data.digits()
    if name == "noise":
        return builtin_data.noise(classes or builtin_data.NOISE_CLASSES, seed)
    if name in published.DATA_SETS:
        return published.load(name, data_root())
    if name.startswith(PACK):
        return packs.load(below_root(name.removeprefix(PACK)))
    return folders.load(below_root(name.removeprefix(FOLDER)))
