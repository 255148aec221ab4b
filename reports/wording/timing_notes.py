"""The notes of a report about times: what intervals cover, and which rows took no turns."""

from collections.abc import Sequence

from bsrbench.harness.records.ratio_interval import CONFIDENCE, FEWEST_GENERATIONS
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.time_ratios import in_one_group

LISTED = 6  # the most names in a sentence; it gives the number of the others
STEP_SECONDS = "step_seconds"
COVERAGE = (
    f"intervals of ratios of times are at {100 * CONFIDENCE:g} %: they cover the variation between "
    "processes and between the rounds of a process, and not other machines"
)


def coverage(comparison: Comparison) -> list[str]:
    """Return a note on what the intervals of time ratios cover; empty without intervals."""
    timed = (len(row.generations(STEP_SECONDS)) for row in comparison.rows)
    enough = sum(generations >= FEWEST_GENERATIONS for generations in timed)
    return [COVERAGE] if enough > 1 else []


def timed_apart(comparison: Comparison) -> list[str]:
    """Return a note with the rows of each round group; empty if there is only one group."""
    if in_one_group(comparison.rows):
        return []
    groups: dict[str | None, list[str]] = {}
    for row in comparison.rows:
        if row.timed():
            groups.setdefault(row.round_group(), []).append(row.label)
    each = _some([_some(labels, ", ") for labels in groups.values()], " | ")
    has_reference = comparison.find(REFERENCE) is not None
    best = (
        f"the best time is the smallest ratio to {REFERENCE}"
        if has_reference
        else "no time is marked as the best"
    )
    note = (
        f"rows were timed in {len(groups)} round groups ({each}), and times from different groups "
        "cannot be compared: every ratio of times uses only rounds in which both rows were timed "
        f"in turns, and {best}"
    )
    return [note, *without_ratio(comparison)]


def without_ratio(comparison: Comparison) -> list[str]:
    """Return a note with the timed rows that have no ratio of times to the reference."""
    reference = comparison.find(REFERENCE)
    if reference is None or not reference.timed():
        return []
    labels = [
        row.label
        for row in comparison.rows
        if row.timed() and comparison.ratio(row, STEP_SECONDS) is None
    ]
    note = f"no ratio of times to {REFERENCE}, because these rows were not timed in turns with it: "
    return [note + _some(labels, ", ")] if labels else []


def _some(names: Sequence[str], between: str) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return between.join(names[:LISTED]) + more
