"""What others' code says, made into JSON data of a bounded size that no reader stumbles over."""

import math
from typing import Any

from harness.visible import visible

MOST_CHARACTERS = 4_000  # of one text
MOST_ITEMS = 10_000  # of all lists and tables together
DEEPEST = 16  # lists and tables in each other
MOST_BITS = 63  # of a whole number, beside its sign


def plain_text(value: object) -> str:
    """Return text in which nothing acts on a terminal and no half of a pair stands, cut if long."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - it is others' code
        return f"(no text: {type(error).__name__})"
    cut = len(text) - MOST_CHARACTERS
    return visible(text) if cut <= 0 else f"{visible(text[:MOST_CHARACTERS])} ... ({cut:,} more)"


def plain_table(value: object, what: str) -> dict[str, Any]:
    """Return a table as JSON data: whole numbers of 64 bits, finite fractions, visible text.

    In the place of what is cut stands how much it was.

    Args:
        value: tables, lists, texts, numbers, truth values and ``None``.
        what: it is, for the error.

    Raises:
        TypeError: it is no table, or something in it has no form in JSON.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{what} is a {type(value).__name__}, expected a dict")
    found: dict[str, Any] = _Plain(what).of(value, 0)
    return found


class _Plain:
    """Counts the items of one table as it is gone through."""

    def __init__(self, what: str) -> None:
        self._what, self._left = what, MOST_ITEMS

    def of(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return plain_text(value)
        if isinstance(value, int):
            return int(value) if value.bit_length() <= MOST_BITS else _bits(value)
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else repr(float(value))
        if isinstance(value, dict | list | tuple):
            return self._items(value, depth + 1)
        raise TypeError(
            f"{self._what} holds something without a form in JSON ({type(value).__name__})"
        )

    def _items(self, value: Any, depth: int) -> Any:
        if depth > DEEPEST:
            return f"... ({len(value)} items, {DEEPEST} levels down)"
        taken, cut = min(len(value), self._left), len(value) - self._left
        self._left -= taken
        if isinstance(value, dict):
            pairs = list(value.items())[:taken]
            table = {plain_text(key): self.of(item, depth) for key, item in pairs}
            return table | ({"...": f"{cut} more"} if cut > 0 else {})
        items = [self.of(item, depth) for item in value[:taken]]
        return items + ([f"... ({cut} more)"] if cut > 0 else [])


def _bits(value: int) -> str:
    return f"a whole number of {value.bit_length()} bits"
