"""The folder of data sets on this machine."""

import os
from pathlib import Path, PurePath

from bsrbench.harness.errors import BadInput, shortened

SETTING = "BSRBENCH_DATA"


def data_root() -> Path:
    """Return the folder that contains data sets: ``BSRBENCH_DATA``, or else ``data``."""
    return Path(os.environ.get(SETTING) or "data")


def how_to_choose() -> str:
    """Return a sentence that says where the data root is and how to change it."""
    return f"the data root is {data_root().resolve()}; choose it with --data-root or {SETTING}"


def below_root(name: str) -> Path:
    """Return the file or folder that a suite names below the data root.

    A suite can come from another person, so it must not name files elsewhere. Links below the root
    are followed, because the owner of the machine made them.

    Raises:
        BadInput: the path is outside the data root, or the name cannot be a file name.
    """
    parts = PurePath(name).parts
    if "\0" in name:
        raise BadInput(f"{shortened(name)!r} contains a zero byte, which no file name can contain")
    if not parts or ".." in parts or PurePath(name).is_absolute():
        raise BadInput(
            f"{shortened(name)!r} is outside the data root: put the file or folder, or a link to "
            f"it, into the data root; {how_to_choose()}"
        )
    return data_root() / name
