"""Ratios of two rows' times, only for rows that were timed in turns."""

from collections.abc import Iterable

from bsrbench.harness.records.ratio_interval import (
    Generations,
    Ratio,
    centre_of_ratio,
    time_ratio,
)
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.repeated_timings import RepeatedTimes


def ratio_of_times(metric: str, row: ComparisonRow, other: ComparisonRow) -> Ratio | None:
    """Return the time of a row divided by the time of another, within one round group."""
    return time_ratio(*_together(metric, row, other), planned=_planned(row, other))


def centre_of_times(metric: str, row: ComparisonRow, other: ComparisonRow) -> float | None:
    """Return the centre of ``ratio_of_times`` alone, which is four times as fast."""
    return centre_of_ratio(*_together(metric, row, other))


def in_one_group(rows: Iterable[ComparisonRow]) -> bool:
    """Tell whether all timed rows were timed in turns, so that their times are comparable."""
    groups = {row.round_group() for row in rows if row.timed()}
    return None not in groups and len(groups) <= 1


def in_turns(
    row: ComparisonRow, other: ComparisonRow
) -> tuple[RepeatedTimes, RepeatedTimes] | None:
    """Return the times of two rows in a common round group; ``None`` if there is none.

    If there are several, the group of both rows' own records is used. So a later repetition, for
    example in fewer rounds, does not change an existing ratio. Otherwise the newest group is used.
    """
    ours, theirs = row.turns(other), other.turns(row)
    shared = ours.keys() & theirs.keys()
    own = row.round_group()
    if own in shared and own == other.round_group():
        return ours[own], theirs[own]
    if not shared:
        return None

    def finished(group: str) -> tuple[str, str]:
        return max(ours[group].finished_at, theirs[group].finished_at), group

    newest = max(shared, key=finished)
    return ours[newest], theirs[newest]


def _planned(row: ComparisonRow, other: ComparisonRow) -> int | None:
    """Return the number of generations that was decided beforehand.

    ``None`` for records without generations, whose rounds were not continued for a ratio.
    """
    turns = in_turns(row, other)
    pairs = zip((row, other), turns or (), strict=False)
    planned = [known for member, own in pairs if (known := member.planned_generations(own))]
    return max(planned, default=None)


def _together(
    metric: str, row: ComparisonRow, other: ComparisonRow
) -> tuple[Generations, Generations]:
    """Return the times of two rows by process generation; empty if they took no turns."""
    turns = in_turns(row, other)
    if turns is None:
        return {}, {}
    ours, theirs = turns
    return row.generations(metric, ours), other.generations(metric, theirs)
