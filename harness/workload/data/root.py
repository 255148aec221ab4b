"""Where data sets lie on this machine."""

import os
from pathlib import Path

SETTING = "BSRBENCH_DATA"


def data_root() -> Path:
    """Return the folder data sets are looked for in: ``BSRBENCH_DATA``, else ``data``."""
    return Path(os.environ.get(SETTING) or "data")


def how_to_choose() -> str:
    """Return how a person says where the data are."""
    return f"the data root is {data_root().resolve()}; choose it with --data-root or {SETTING}"
