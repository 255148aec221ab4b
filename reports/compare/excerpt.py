"""The most important rows of a comparison that has too many rows to read."""

from collections.abc import Sequence
from dataclasses import replace

from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison import Comparison

# Most rows in a document. Its comparisons share them equally; each has at least ``FEWEST``.
IN_FIGURE, ON_TERMINAL, IN_LATEX, IN_MARKDOWN, ON_PAGE = 40, 60, 100, 500, 2500
LINES = 16  # most lines in a figure: more colours cannot be distinguished
FEWEST = 20


def share(most: int, comparisons: Sequence[Comparison]) -> int:
    """Return the row limit of each comparison in a document with the row limit ``most``."""
    return max(FEWEST, most // max(1, len(comparisons)))


def excerpt(comparison: Comparison, most: int) -> Comparison:
    """Return a comparison with at most this number of rows.

    It keeps the reference, the baseline and the Pareto front, then other rows in order.
    """
    if len(comparison.rows) <= most:
        return comparison
    named = [comparison.find(REFERENCE), comparison.find(BASELINE)]
    first = [row for row in (*named, *comparison.pareto_front()) if row]
    kept = set(list(dict.fromkeys(map(id, [*first, *comparison.rows])))[:most])
    return replace(comparison, rows=tuple(row for row in comparison.rows if id(row) in kept))


def left_out(comparison: Comparison, shown: Comparison) -> list[str]:
    """Return a note about the rows that an excerpt leaves out; empty if it has all rows."""
    missing = len(comparison.rows) - len(shown.rows)
    if not missing:
        return []
    note = (
        f"{missing:,} of {len(comparison.rows):,} rows are not shown here; comparison.csv has "
        "all rows"
    )
    return [note]
