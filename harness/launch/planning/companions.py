"""Choose the stored rows to time again in turns with new rows, to make their times comparable."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bsrbench.harness.launch.round_group import TIMED
from bsrbench.harness.records.trial_record import Status, TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec

# Takes the specs of one question, and returns the specs that all others are compared with.
ComparedWith = Callable[[Sequence[TrialSpec]], Sequence[TrialSpec]]


def none_in_particular(_: Sequence[TrialSpec]) -> Sequence[TrialSpec]:
    """Return no spec: no row is compared with all others."""
    return ()


@dataclass(frozen=True)
class Companions:
    """The stored rows of a question that are timed again in turns with its new trials.

    Attributes:
        records: the records of these rows.
        left_out: reason -> labels of the rows that cannot be timed again for this reason.
    """

    records: tuple[TrialRecord, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def companions_of(
    new: Sequence[TrialSpec],
    stored: Iterable[TrialRecord],
    why_not: Callable[[TrialRecord], str],
    compared_with: ComparedWith,
) -> Companions:
    """Return the stored rows to time again in turns with new trials of one question.

    These are the rows that every other row is compared with, for example the baseline. If one of
    them is new, or if none of them can be timed, all stored rows of the question are timed again.
    Otherwise a ratio would be missing.

    Args:
        new: the new trials of one question that will be timed.
        stored: all stored records, oldest first.
        why_not: returns why a record's trial cannot be timed again here; empty if it can.
        compared_with: chooses the rows that every other row is compared with.
    """
    fresh = {spec.row_id() for spec in new}
    rows = {
        row: records
        for row, records in _of_same_question(new[0], stored).items()
        if row not in fresh
    }
    specs = [*new, *(records[-1].spec for records in rows.values())]
    anchors = {spec.row_id() for spec in compared_with(specs)}
    timed = {row: [r for r in records if _was_timed(r)] for row, records in rows.items()}
    can = {row: [r for r in records if not why_not(r)] for row, records in timed.items()}
    if anchors & fresh or not any(can[row] for row in anchors & can.keys()):
        anchors = set(rows)
    chosen = [row for row in rows if row in anchors and timed[row]]
    left_out: dict[str, tuple[str, ...]] = {}
    for last in (timed[row][-1] for row in chosen if not can[row]):
        why = why_not(last)
        left_out[why] = (*left_out.get(why, ()), last.label())
    return Companions(tuple(_as_reports_take(can[row]) for row in chosen if can[row]), left_out)


def _of_same_question(
    spec: TrialSpec, stored: Iterable[TrialRecord]
) -> dict[str, list[TrialRecord]]:
    """Return, by row, the records of timed trials of the same question."""
    question = spec.workload.question()
    rows: dict[str, list[TrialRecord]] = {}
    for record in stored:
        profile = record.spec.profile
        if profile and profile.rounds and record.spec.workload.question() == question:
            rows.setdefault(record.spec.row_id(), []).append(record)
    return rows


def _was_timed(record: TrialRecord) -> bool:
    completed = record.outcome.status is Status.COMPLETED
    return completed and bool(record.measurements.get(TIMED))


def _as_reports_take(records: Sequence[TrialRecord]) -> TrialRecord:
    """Return the record of a row that reports show: the newest of those with the most values.

    A row has several records if it was profiled with several settings.
    """
    return max(reversed(records), key=TrialRecord.measured)
