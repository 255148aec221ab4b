"""Rows of two sides that have no counterpart on the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.selection import PlacedRow, Side, SideKind


@dataclass(frozen=True)
class UnpairedRow:
    """A row without a counterpart.

    Attributes:
        row: the row.
        setting: what it was measured on, in a line.
        of_baseline: whether it is a row of the baseline; else it is a new one.
        lost: whether it must have a counterpart: the baseline is a folder or a commit, and every
            row of it that was asked for belongs to the new results, too.
        said: which row lacks what, in a sentence.
    """

    row: ComparisonRow
    setting: str
    of_baseline: bool
    lost: bool
    said: str


def without_counterpart(
    ours: Side, theirs: Side, paired: Iterable[ComparisonRow]
) -> list[UnpairedRow]:
    """Return the rows that are in no pair: those of the baseline, then the new ones."""
    used = set(map(id, paired))
    new, old = ({id(placed.row) for placed in side.rows} for side in (ours, theirs))
    found = [
        _alone(placed, theirs, ours, of_baseline=True)
        for placed in _asked_for(theirs, ours)
        if id(placed.row) not in used | new
    ]
    if (
        theirs.kind is SideKind.RECORD
    ):  # it is the counterpart of one row, and nobody asked for others
        return found
    return found + [
        _alone(placed, ours, theirs, of_baseline=False)
        for placed in ours.rows
        if id(placed.row) not in used | old
    ]


def _asked_for(theirs: Side, ours: Side) -> Sequence[PlacedRow]:
    """Return the rows of the baseline that the new ones were to be put against."""
    if SideKind.RECORD in {ours.kind, theirs.kind}:
        return ()
    if theirs.kind is SideKind.METHOD or ours.kind is SideKind.SET:
        return theirs.rows
    names = {placed.row.name for placed in ours.rows}
    return [placed for placed in theirs.rows if placed.row.name in names]


def _alone(placed: PlacedRow, side: Side, other: Side, *, of_baseline: bool) -> UnpairedRow:
    row, setting = placed.row, placed.comparison.title()
    here, there = (
        f"{'the baseline ' if is_baseline else ''}{named.name!r}"
        for named, is_baseline in ((side, of_baseline), (other, not of_baseline))
    )
    lost = of_baseline and side.kind is SideKind.SET
    if SideKind.SET not in {side.kind, other.kind}:
        said = f"{row.label} ({setting}): no row of {there} answers its question"
        return UnpairedRow(row, setting, of_baseline, lost, said)
    elsewhere = any(row.name == one.row.name for one in other.rows)
    more = ", where the row of this name answers another question" if elsewhere else ""
    said = f"{row.label} ({setting}) of {here} has no counterpart in {there}{more}"
    return UnpairedRow(row, setting, of_baseline, lost, said)
