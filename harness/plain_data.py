"""Data that may stand in a record: numbers that can be reckoned with, bounded nesting, text.

What a file holds is examined (``fault_in``), what is to be stored is tidied, and what others' code
says is bounded in its length, too (``plain_table``).
"""

from typing import Any

from bsrbench.harness.visible_text import visible

# Of numbers, not reached: whole ones fit into 64 bits, as files and tables have them, and of
# others squares, sums and ratios stay finite. Nothing measured is as large.
LARGEST = 2**63
RANGE = "a number below 2**63"
DEEPEST = 50  # of nesting; more than that ends whoever goes down by calling himself
SAID_CHARACTERS = 4_000  # of one text that others' code says
SAID_ITEMS = 10_000  # of all its lists and tables together
SAID_DEEPEST = 16  # of its nesting


def fault_in(data: Any, place: str = "", depth: int = DEEPEST) -> str:
    """Return which part of JSON data cannot be reckoned with, and why; empty if all can.

    Args:
        data: as a parser of JSON gives it.
        place: what it is called.
        depth: how deep it may be nested.
    """
    if isinstance(data, int | float) and not isinstance(data, bool):
        return "" if -LARGEST < data < LARGEST else f"{place} is {_short(data)}, expected {RANGE}"
    if not isinstance(data, dict | list | tuple):
        return ""
    if depth == 0:
        return f"it is nested more than {DEEPEST} deep"
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    for name, value in inner:
        if fault := fault_in(value, f"{place}.{name}" if place else str(name), depth - 1):
            return fault
    return ""


def bounded(value: float) -> int | float | str:
    """Return a number as it may stand in a record: itself, or text where it is out of bounds."""
    plain = int(value) if isinstance(value, int) else float(value)  # of no class of others'
    return plain if -LARGEST < plain < LARGEST else _short(plain)


def _short(value: float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"a whole number of {value.bit_length()} bits"


def tidied(data: Any, depth: int = DEEPEST) -> Any:
    """Return data as they may stand in a record.

    Text is made visible, a number out of bounds becomes text, what is nested too deep is cut off,
    and what is no JSON becomes its text.
    """
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, int | float):
        return bounded(data)
    if not isinstance(data, dict | list | tuple):
        return visible(str(data))  # text, or what is no JSON
    if depth == 0:
        return f"(nested more than {DEEPEST} deep)"
    if isinstance(data, dict):
        return {visible(str(name)): tidied(value, depth - 1) for name, value in data.items()}
    return [tidied(value, depth - 1) for value in data]


def plain_text(value: object) -> str:
    """Return text in which nothing acts on a terminal and no half of a pair stands, cut if long."""
    try:
        text = str(value)
    except Exception as error:  # noqa: BLE001 - it is others' code
        return f"(no text: {type(error).__name__})"
    cut = len(text) - SAID_CHARACTERS
    return visible(text) if cut <= 0 else f"{visible(text[:SAID_CHARACTERS])} ... ({cut:,} more)"


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
            f"{self._what} holds something without a form in JSON ({type(value).__name__})"
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
