"""Rows of two sides that have no counterpart on the other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from reports.row import Row
from reports.selection import Kind, Placed, Side


@dataclass(frozen=True)
class Alone:
    """A row without a counterpart.

    Attributes:
        row: the row.
        setting: what it was measured on, in a line.
        of_baseline: whether it is a row of the baseline; else it is a new one.
        lost: whether it must have a counterpart: the baseline is a folder or a commit, and every
            row of it that was asked for belongs to the new results, too.
        said: which row lacks what, in a sentence.
    """

    row: Row
    setting: str
    of_baseline: bool
    lost: bool
    said: str


def without_counterpart(ours: Side, theirs: Side, paired: Iterable[Row]) -> list[Alone]:
    """Return the rows that are in no pair: those of the baseline, then the new ones."""
    used = set(map(id, paired))
    new, old = ({id(placed.row) for placed in side.rows} for side in (ours, theirs))
    found = [
        _alone(placed, theirs, ours, of_baseline=True)
        for placed in _asked_for(theirs, ours)
        if id(placed.row) not in used | new
    ]
    if theirs.kind is Kind.RECORD:  # it is the counterpart of one row, and nobody asked for others
        return found
    return found + [
        _alone(placed, ours, theirs, of_baseline=False)
        for placed in ours.rows
        if id(placed.row) not in used | old
    ]


def _asked_for(theirs: Side, ours: Side) -> Sequence[Placed]:
    """Return the rows of the baseline that the new ones were to be put against."""
    if Kind.RECORD in {ours.kind, theirs.kind}:
        return ()
    if theirs.kind is Kind.METHOD or ours.kind is Kind.SET:
        return theirs.rows
    names = {placed.row.name for placed in ours.rows}
    return [placed for placed in theirs.rows if placed.row.name in names]


def _alone(placed: Placed, side: Side, other: Side, *, of_baseline: bool) -> Alone:
    row, setting = placed.row, placed.comparison.title()
    here, there = (
        f"{'the baseline ' if is_baseline else ''}{named.name!r}"
        for named, is_baseline in ((side, of_baseline), (other, not of_baseline))
    )
    lost = of_baseline and side.kind is Kind.SET
    if Kind.SET not in {side.kind, other.kind}:
        said = f"{row.label} ({setting}): no row of {there} answers its question"
        return Alone(row, setting, of_baseline, lost, said)
    elsewhere = any(row.name == one.row.name for one in other.rows)
    more = ", where the row of this name answers another question" if elsewhere else ""
    said = f"{row.label} ({setting}) of {here} has no counterpart in {there}{more}"
    return Alone(row, setting, of_baseline, lost, said)
