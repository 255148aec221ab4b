"""Text from records where characters act or room is short."""

import math
from collections.abc import Sequence
from itertools import zip_longest

from bsrbench.harness.visible_text import visible

IN_TABLE, IN_FIGURE = 36, 40  # characters
CUT = "…"
HEAD, BEFORE = 8, 6  # characters kept of the beginning, and before a difference
FORMULA = ("=", "+", "-", "@", "\t")  # begin what a spreadsheet would compute


def on_one_line(text: str) -> str:
    """Return text without line breaks, what would act in it as its code."""
    return visible(" ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """Return text on one line, its middle cut out where it is longer than so many characters."""
    line = on_one_line(text)
    if len(line) <= most:
        return line
    behind = (most - len(CUT)) // 2
    return f"{line[: most - len(CUT) - behind]}{CUT}{line[-behind:]}"


def shortened_apart(texts: Sequence[str], most: int) -> list[str]:
    """Return texts shortened; those that would then be equal show where they differ instead."""
    lines = list(map(on_one_line, texts))
    short = _told_apart({line: shortened(line, most) for line in lines}, most)
    return [short[line] for line in lines]


def _told_apart(short: dict[str, str], most: int) -> dict[str, str]:
    """Return what each line is shortened to, with no two alike."""
    found = dict(short)
    for same in _alike(short):
        signs = enumerate(zip_longest(*same))
        begin = next(place for place, there in signs if len(set(there)) > 1)
        found |= _told_apart({line: _around(line, begin, most) for line in same}, most)
    return found


def _alike(short: dict[str, str]) -> list[list[str]]:
    """Return lines together that are shortened to the same, where they are several."""
    groups: dict[str, list[str]] = {}
    for line, text in short.items():
        groups.setdefault(text, []).append(line)
    return [lines for lines in groups.values() if len(lines) > 1]


def _around(line: str, place: int, most: int) -> str:
    """Return a line's beginning, and what stands around a place in it."""
    start = max(HEAD, place - BEFORE)
    room = most - HEAD - 2 * len(CUT)
    behind = CUT if len(line) > start + room else ""
    return f"{line[:HEAD]}{CUT}{line[start : start + room]}{behind}"


def in_csv(value: object) -> object:
    """Return what stands in a cell; no spreadsheet may take a name for a formula or a new line."""
    if isinstance(value, str):
        text = visible(value)
        return f"'{text}" if text.startswith(FORMULA) else text
    return "" if isinstance(value, float) and math.isnan(value) else value


def in_figure(text: str) -> str:
    """Return text that matplotlib draws as it is: ``$`` would begin a formula, ``_`` hide a row."""
    return in_figures([text])[0]


def as_drawn(text: str) -> str:
    """Return text in which matplotlib finds no formula."""
    return text.replace("$", r"\$")


def in_figures(texts: Sequence[str]) -> list[str]:
    """Return the texts of one figure as ``in_figure`` does, no two different ones alike."""
    lines = [as_drawn(line) for line in shortened_apart(texts, IN_FIGURE)]
    return [f" {line}" if line.startswith("_") else line for line in lines]
