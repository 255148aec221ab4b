"""Settings a person types as ``key=value``."""

import re
import tomllib
from typing import Any

from harness.errors import BadInput

UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "KB": 1e3, "MB": 1e6, "GB": 1e9}
TIMES = {"s": 1, "min": 60, "h": 3600}


def setting(text: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``, the value in TOML."""
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise BadInput(f"expected key=value, got {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        raise BadInput(
            f"{text!r}: {value!r} is not a TOML value (text stands in quotes, lists in [])"
        ) from error


def nested(options: tuple[str, ...]) -> dict[str, Any]:
    """Return options as a table; ``int8.bits=8`` belongs to the part ``int8``."""
    table: dict[str, Any] = {}
    for text in options:
        key, value = setting(text)
        part, dot, name = key.partition(".")
        if not dot:
            table[key] = value
        else:
            table.setdefault(part, {})[name] = value
    return table


def size_in_bytes(option: str, text: str) -> int:
    """Return the bytes of ``512MiB``, ``2GiB`` and the like.

    Raises:
        BadInput: it is no size; ``option`` is named.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].upper() not in UNITS or float(found[1]) <= 0:
        raise BadInput(f"{option} {text!r}: expected a size like 512MiB, 2GiB or 4GB")
    return int(float(found[1]) * UNITS[found[2].upper()])


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of ``90s``, ``30min``, ``2h`` and the like.

    Raises:
        BadInput: it is no time; ``option`` is named.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]+)", text.strip())
    if found is None or found[2] not in TIMES or float(found[1]) <= 0:
        raise BadInput(f"{option} {text!r}: expected a time like 90s, 30min or 2h")
    return float(found[1]) * TIMES[found[2]]
