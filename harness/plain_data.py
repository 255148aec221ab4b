"""Data that may stand in a record: numbers that can be reckoned with, bounded nesting, text."""

from typing import Any

from harness.visible import visible

# Of numbers, not reached: whole ones fit into 64 bits, as files and tables have them, and of
# others squares, sums and ratios stay finite. Nothing measured is as large.
LARGEST = 2**63
RANGE = "a number below 2**63"
DEEPEST = 50  # of nesting; more than that ends whoever goes down by calling himself


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


def _short(value: float) -> str:
    return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"{value:.4g}"


def tidied(data: Any, depth: int = DEEPEST) -> Any:
    """Return data as they may stand in a record.

    Text is made visible, a number out of bounds becomes text, what is nested too deep is cut off,
    and what is no JSON becomes its text.
    """
    if data is None or isinstance(data, bool):
        return data
    if isinstance(data, int | float):
        return data if -LARGEST < data < LARGEST else _short(data)
    if not isinstance(data, dict | list | tuple):
        return visible(str(data))  # text, or what is no JSON
    if depth == 0:
        return f"(nested more than {DEEPEST} deep)"
    if isinstance(data, dict):
        return {visible(str(name)): tidied(value, depth - 1) for name, value in data.items()}
    return [tidied(value, depth - 1) for value in data]
