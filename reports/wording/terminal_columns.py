"""The columns of the table on a terminal: fewer and shorter ones for a narrower terminal."""

from collections.abc import Iterator
from dataclasses import replace

from bsrbench.reports import units
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.repeated_timings import has_rounds
from bsrbench.reports.wording.columns import (
    CONFIDENCE_TEXT,
    OVER,
    Cell,
    Column,
    relative,
)
from bsrbench.reports.wording.report_tables import shown

REACH = f"± {CONFIDENCE_TEXT}"  # heading of the column behind a ratio of times


def widest_first(comparison: Comparison) -> Iterator[tuple[Column, ...]]:
    """Yield the columns of tables of which a terminal shows the first that fits.

    First all columns; then without spreads; then each interval as one number; last without the
    columns in which no value is the best, because they do not rank the rows.
    """
    columns = shown(comparison)
    yield columns
    short = [column for column in columns if column.short]
    yield tuple(
        replace(column, title=column.short_title, text=column.short)
        for column in short
        if column.short
    )
    yield tuple(_narrow(short))
    yield tuple(_narrow([column for column in short if column.ranked or not column.metric]))


def _narrow(short: list[Column]) -> Iterator[Column]:
    """Yield columns for a narrow terminal; the interval of a ratio has a column of its own."""
    for column in short:
        if column.relative and has_rounds(column.metric):
            yield replace(column, title=OVER, text=relative(column.metric))
            yield Column(REACH, column.metric, _reach(column.metric), ranked=False)
        elif column.short:
            yield replace(column, title=column.short_title, text=column.short)


def _reach(metric: str) -> Cell:
    """Return the cell of how far the interval of a ratio of times reaches: ``±7%``."""

    def text(comparison: Comparison, row: ComparisonRow) -> str:
        ratio = comparison.time_ratio(row, metric)
        if ratio is None or ratio.low is None or ratio.high is None or ratio.low == ratio.high:
            return units.NOTHING
        return units.reach(ratio.low, ratio.centre, ratio.high)

    return text
