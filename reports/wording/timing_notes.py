"""What a report says of rows that were not all timed in turns with each other."""

from collections.abc import Sequence

from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.time_ratios import in_one_group

LISTED = 6  # names in a sentence; more are counted
STEP_SECONDS = "step_seconds"


def timed_apart(comparison: Comparison) -> list[str]:
    """Return which rows were timed in which round groups; nothing where all were in one."""
    if in_one_group(comparison.rows):
        return []
    groups: dict[str | None, list[str]] = {}
    for row in comparison.rows:
        if row.timed():
            groups.setdefault(row.round_group(), []).append(row.label)
    each = _some([_some(labels, ", ") for labels in groups.values()], " | ")
    has_reference = comparison.find(REFERENCE) is not None
    best = f"the best is the smallest ratio to {REFERENCE}" if has_reference else "none is the best"
    said = (
        f"rows were timed in {len(groups)} round groups ({each}), and seconds of two groups cannot "
        f"be compared: every ratio of times is of rounds in which both rows took turns, and {best}"
    )
    return [said, *without_ratio(comparison)]


def without_ratio(comparison: Comparison) -> list[str]:
    """Return which timed rows have no ratio of times to the reference, and why."""
    reference = comparison.find(REFERENCE)
    if reference is None or not reference.timed():
        return []
    labels = [
        row.label
        for row in comparison.rows
        if row.timed() and comparison.ratio(row, STEP_SECONDS) is None
    ]
    said = f"no ratio of times to {REFERENCE}, for they were not timed in turns with it: "
    return [said + _some(labels, ", ")] if labels else []


def _some(names: Sequence[str], between: str) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return between.join(names[:LISTED]) + more
