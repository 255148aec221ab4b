"""Colour and mark of a row: of its method, or of its optimizer if the label states one."""

import zlib

from bsrbench.harness.spec.optimizer_names import OPTIMIZERS
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.figures.palette import MARKS, OTHER_COLOURS, colour_of, mark_of


def colour_of_row(row: ComparisonRow) -> str:
    """Return the colour of a row as ``#rrggbb``.

    Rows with the same optimizer have the same colour, whatever its options.
    """
    words = _optimizer(row)
    if not words:
        return colour_of(row.spec.method)
    return OTHER_COLOURS[_place(words) % len(OTHER_COLOURS)]


def mark_of_row(row: ComparisonRow) -> str:
    """Return the mark of a row in matplotlib's notation.

    Rows of the reference method have the mark of their optimizer; other methods keep their own.
    """
    words = _optimizer(row)
    if not words or row.spec.method != REFERENCE:
        return mark_of(row.spec.method)
    number = _place(words) if words in OPTIMIZERS else zlib.crc32(words.encode())
    return MARKS[number % len(MARKS)]


def _optimizer(row: ComparisonRow) -> str:
    """Return the optimizer that the label states, in words; empty if it states none."""
    return str(row.printed.axes.get("optimizer", ""))


def _place(words: str) -> int:
    return OPTIMIZERS.index(words.split(" ", maxsplit=1)[0])
