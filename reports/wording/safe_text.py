"""Text from records, made safe or short for CSV cells, Markdown and figures."""

import math
from collections.abc import Sequence
from itertools import zip_longest

from bsrbench.harness.visible_text import visible

IN_TABLE, IN_FIGURE = 36, 40  # characters
CUT = "…"
HEAD, BEFORE = 8, 6  # characters kept at the beginning, and before the first difference
FORMULA = ("=", "+", "-", "@", "\t")  # the first characters of a spreadsheet formula


def on_one_line(text: str) -> str:
    """Return text on one line, with control characters replaced by their codes."""
    return visible(" ".join(text.split()))


def shortened(text: str, most: int) -> str:
    """Return text on one line; if it has more than ``most`` characters, cut out its middle."""
    line = on_one_line(text)
    if len(line) <= most:
        return line
    behind = (most - len(CUT)) // 2
    return f"{line[: most - len(CUT) - behind]}{CUT}{line[-behind:]}"


def shortened_apart(texts: Sequence[str], most: int) -> list[str]:
    """Return shortened texts; texts that would be equal keep the part in which they differ."""
    lines = list(map(on_one_line, texts))
    short = _told_apart({line: shortened(line, most) for line in lines}, most)
    return [short[line] for line in lines]


def _told_apart(short: dict[str, str], most: int) -> dict[str, str]:
    """Return the shortened form of each line; no two are equal."""
    distinct = dict(short)
    for same in _alike(short):
        signs = enumerate(zip_longest(*same))
        begin = next(place for place, there in signs if len(set(there)) > 1)
        distinct |= _told_apart({line: _around(line, begin, most) for line in same}, most)
    return distinct


def _alike(short: dict[str, str]) -> list[list[str]]:
    """Return groups of two or more lines that have the same shortened form."""
    groups: dict[str, list[str]] = {}
    for line, text in short.items():
        groups.setdefault(text, []).append(line)
    return [lines for lines in groups.values() if len(lines) > 1]


def _around(line: str, place: int, most: int) -> str:
    """Return the beginning of a line, and the text around a position in it."""
    start = max(HEAD, place - BEFORE)
    room = most - HEAD - 2 * len(CUT)
    behind = CUT if len(line) > start + room else ""
    return f"{line[:HEAD]}{CUT}{line[start : start + room]}{behind}"


def in_csv(value: object) -> object:
    """Return the content of a CSV cell; no spreadsheet reads it as a formula."""
    if isinstance(value, str):
        text = visible(value)
        return f"'{text}" if text.startswith(FORMULA) else text
    return "" if isinstance(value, float) and math.isnan(value) else value


def in_figure(text: str) -> str:
    """Return text that matplotlib draws literally, in spite of ``$`` and a leading ``_``."""
    return in_figures([text])[0]


def as_drawn(text: str) -> str:
    """Return text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def in_figures(texts: Sequence[str]) -> list[str]:
    """Return the texts of one figure as ``in_figure`` does; different texts stay different."""
    lines = [as_drawn(line) for line in shortened_apart(texts, IN_FIGURE)]
    return [f" {line}" if line.startswith("_") else line for line in lines]
