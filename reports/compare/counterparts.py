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
        setting: the row's workload, as one line.
        of_baseline: whether it is a row of the baseline; otherwise it is a new row.
        lost: whether a counterpart is required. If the baseline is a folder or a commit, the new
            results must contain each of its selected rows.
        said: the message that names the row without a counterpart.
    """

    row: ComparisonRow
    setting: str
    of_baseline: bool
    lost: bool
    said: str


def without_counterpart(
    ours: Side, theirs: Side, paired: Iterable[ComparisonRow]
) -> list[UnpairedRow]:
    """Return the rows without a counterpart: first baseline rows, then new rows."""
    used = set(map(id, paired))
    new, old = ({id(placed.row) for placed in side.rows} for side in (ours, theirs))
    unpaired = [
        _alone(placed, theirs, ours, of_baseline=True)
        for placed in _asked_for(theirs, ours)
        if id(placed.row) not in used | new
    ]
    if theirs.kind is SideKind.RECORD:  # one record can be the counterpart of one row only
        return unpaired
    return unpaired + [
        _alone(placed, ours, theirs, of_baseline=False)
        for placed in ours.rows
        if id(placed.row) not in used | old
    ]


def _asked_for(theirs: Side, ours: Side) -> Sequence[PlacedRow]:
    """Return the baseline rows that should have a counterpart."""
    if SideKind.RECORD in {ours.kind, theirs.kind}:
        return ()
    if theirs.kind is SideKind.METHOD or ours.kind is SideKind.SET:
        return theirs.rows
    names = {placed.row.name for placed in ours.rows}
    return [placed for placed in theirs.rows if placed.row.name in names]


def _alone(placed: PlacedRow, side: Side, other_side: Side, *, of_baseline: bool) -> UnpairedRow:
    row, setting = placed.row, placed.comparison.title()
    here, there = (
        f"{'the baseline ' if is_baseline else ''}{named.name!r}"
        for named, is_baseline in ((side, of_baseline), (other_side, not of_baseline))
    )
    lost = of_baseline and side.kind is SideKind.SET
    if SideKind.SET not in {side.kind, other_side.kind}:
        message = f"{row.label} ({setting}): no row of {there} has the same workload"
        return UnpairedRow(row, setting, of_baseline, lost, message)
    elsewhere = any(row.name == candidate.row.name for candidate in other_side.rows)
    more = ", where the row of this name has another workload" if elsewhere else ""
    message = f"{row.label} ({setting}) of {here} has no counterpart in {there}{more}"
    return UnpairedRow(row, setting, of_baseline, lost, message)
