"""Data sets by name: what there is, where it is read from, and its three splits.

A name is one of the small ones that need nothing (``digits``, ``noise``), one of torchvision's
(``cifar10`` ...), ``pack:FILE.npz`` or ``folder:FOLDER``. Files are looked for below the data root.
"""

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.workload.data import builtin_data, folders, packs, published
from bsrbench.harness.workload.data.data_folder import below_root, data_root
from bsrbench.harness.workload.data.splits import ImageData, Split

__all__ = ["ImageData", "Split", "check_name", "classes", "data_root", "fetch", "load", "names"]

PACK, FOLDER = "pack:", "folder:"


def names() -> list[str]:
    """Return the names that are known, and the two forms of one's own."""
    return [*builtin_data.NAMES, *published.DATA_SETS, f"{PACK}FILE.npz", f"{FOLDER}FOLDER"]


def check_name(name: str) -> None:
    """Check that a data set's name has one of the known forms.

    Raises:
        BadInput: it has not, or leads out of the data root.
    """
    if name in {*builtin_data.NAMES, *published.DATA_SETS}:
        return
    if not (name.startswith((PACK, FOLDER)) and name.partition(":")[2]):
        raise unknown("data set", name, names())
    below_root(name.partition(":")[2])


def classes(name: str, asked: int | None) -> int:
    """Return how many classes a data set has; ``noise`` has as many as asked for.

    Raises:
        BadInput: an unknown name, no such file, or a number the data set does not have.
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
    """Download a published data set that is not there yet; of the others there is nothing to get.

    Raises:
        BadInput: an unknown name, or it is not there and cannot be downloaded.
    """
    check_name(name)
    if name in published.DATA_SETS:
        published.fetch(name, data_root())


def load(name: str, classes: int | None, seed: int) -> ImageData:
    """Return a data set by name; ``noise`` needs the number of classes and a seed.

    Raises:
        BadInput: an unknown name, files that are missing or cannot be used.
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
