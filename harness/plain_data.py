"""Data that a record may contain: numbers within bounds, limited nesting, visible text.

``fault_in`` checks data from a file, ``tidied`` prepares data for storing, and ``plain_table``
also limits the length of data that a method or another library returns.
"""

from typing import Any

from bsrbench.harness.visible_text import visible

# Exclusive bound of all numbers. Integers then fit in 64 bits, as file formats require; squares,
# sums and ratios of floats stay finite. No measured value is as large.
LARGEST = 2**63
RANGE = "a number below 2**63"
WITHOUT_BOUNDS = (str, bool, type(None))
DEEPEST = 50  # levels of nesting; far deeper data would exceed Python's recursion limit
SAID_CHARACTERS = 4_000  # of one text that foreign code returns
SAID_ITEMS = 10_000  # of all lists and tables together that foreign code returns
SAID_DEEPEST = 16  # levels of nesting that foreign code returns


def fault_in(data: Any, place: str = "", depth: int = DEEPEST) -> str:
    """Return which part of JSON data is out of bounds, and why; empty if none is.

    Args:
        data: the parsed JSON.
        place: name of the data, for the message.
        depth: how many levels of nesting are allowed.
    """
    if isinstance(data, int | float) and not isinstance(data, bool):
        return "" if -LARGEST < data < LARGEST else f"{place} is {_short(data)}, expected {RANGE}"
    if not isinstance(data, dict | list | tuple):
        return ""
    if depth == 0:
        return f"it is nested more than {DEEPEST} levels deep"
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in inner:
        if type(value) in WITHOUT_BOUNDS or (type(value) is float and -LARGEST < value < LARGEST):
            continue
        if fault := fault_in(value, f"{place}.{name}" if place else str(name), depth - 1):
            return fault
    return ""


def bounded(value: float) -> int | float | str:
    """Return a number that a record may contain: the number, or text if it is out of bounds."""
    plain = int(value) if isinstance(value, int) else float(value)  # not a foreign subclass
    return plain if -LARGEST < plain < LARGEST else _short(plain)


def _short(value: float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"a whole number of {value.bit_length()} bits"


def tidied(data: Any, depth: int = DEEPEST) -> Any:
    """Return data in a form that a record may contain.

    Control characters are escaped, a number out of bounds becomes text, deeper nesting is cut off,
    and a value that JSON does not have becomes its text.
    """
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, int | float):
        return bounded(data)
    if not isinstance(data, dict | list | tuple):
        return visible(str(data))  # text, or a value that JSON does not have
    if depth == 0:
        return f"(nested more than {DEEPEST} deep)"
    if isinstance(data, dict):
        return {visible(str(name)): tidied(value, depth - 1) for name, value in data.items()}
    return [tidied(value, depth - 1) for value in data]


def plain_text(value: object) -> str:
    """Return text with control characters and unpaired surrogates escaped, and truncated."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - foreign code can raise anything
        return f"(no text: {type(error).__name__})"
    cut = len(text) - SAID_CHARACTERS
    return visible(text) if cut <= 0 else f"{visible(text[:SAID_CHARACTERS])} ... ({cut:,} more)"


def plain_table(value: object, what: str) -> dict[str, Any]:
    """Return a table as JSON data: 64-bit integers, finite floats, visible text.

    If something is cut off, its size stands in its place.

    Args:
        value: tables, lists, texts, numbers, truth values and ``None``.
        what: name of the table, for the error.

    Raises:
        TypeError: it is not a table, or contains a value that JSON cannot represent.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{what} is a {type(value).__name__}, expected a dict")
    table: dict[str, Any] = _Plain(what).of(value, 0)
    return table


class _Plain:
    """Converts one table and counts its items."""

    def __init__(self, what: str) -> None:
        self._what, self._left = what, SAID_ITEMS

    def of(self, value: object, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return plain_text(value)
        if isinstance(value, int | float):
            return bounded(value)
        if isinstance(value, dict | list | tuple):
            return self._items(value, depth + 1)
        raise TypeError(
            f"{self._what} contains a value that JSON cannot represent ({type(value).__name__})"
        )

    def _items(self, value: Any, depth: int) -> Any:
        if depth > SAID_DEEPEST:
            return f"... ({len(value)} items, {SAID_DEEPEST} levels down)"
        taken, cut = min(len(value), self._left), len(value) - self._left
        self._left -= taken
        if isinstance(value, dict):
            pairs = list(value.items())[:taken]
            table = {plain_text(key): self.of(item, depth) for key, item in pairs}
            return table | ({"...": f"{cut} more"} if cut > 0 else {})
        items = [self.of(item, depth) for item in value[:taken]]
        return items + ([f"... ({cut} more)"] if cut > 0 else [])
