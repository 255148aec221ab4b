"""Settings a person types as ``key=value``."""

import tomllib
from typing import Any

from harness.errors import BadInput


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
