"""Read a memory size that a person has written, such as ``512MiB``."""

import re

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 1e3, "MB": 1e6, "GB": 1e9}
MOST_BYTES = 1e15  # a larger number is a typing error, and the system rejects it
SHOWN = 80  # characters of the text that a message repeats


def bytes_of_size(text: str) -> int:
    """Return the bytes of ``512MiB``, ``2GiB`` and the like.

    Raises:
        ValueError: the text is not a size.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", text.strip(), re.ASCII)
    size = float(match[1]) * UNITS.get(match[2].upper(), 0) if match else 0.0
    if not 0 < size < MOST_BYTES:
        shown = repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r}..."
        raise ValueError(f"{shown}: expected a size like 512MiB, 2GiB or 4GB")
    return int(size)
