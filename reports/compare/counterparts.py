"""Rows of either side that have no counterpart on the other side."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.selection import PlacedRow, Side, SideKind


@dataclass(frozen=True)
class UnpairedRow:
    """A row without a counterpart.

    Attributes:
        row: the row.
        setting: its workload, as one line.
        of_baseline: whether it is a row of the baseline; otherwise it is a new row.
        lost: whether it must have a counterpart: if the baseline is a folder or a commit, the new
            results must contain each of its rows that was selected.
        said: the message: which row has no counterpart.
    """

    row: ComparisonRow
    setting: str
    of_baseline: bool
    lost: bool
    said: str


def without_counterpart(
    ours: Side, theirs: Side, paired: Iterable[ComparisonRow]
) -> list[UnpairedRow]:
    """Return the rows without a pair: first those of the baseline, then the new ones."""
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
    """Return the rows of the baseline with which the new ones were to be compared."""
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
        message = f"{row.label} ({setting}): no row of {there} has the same workload"
        return UnpairedRow(row, setting, of_baseline, lost, message)
    elsewhere = any(row.name == one.row.name for one in other.rows)
    more = ", where the row of this name has another workload" if elsewhere else ""
    message = f"{row.label} ({setting}) of {here} has no counterpart in {there}{more}"
    return UnpairedRow(row, setting, of_baseline, lost, message)
