"""Which stored rows are timed again beside new ones, so that ratios of times to them exist."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bsrbench.harness.launch.round_group import TIMED
from bsrbench.harness.records.trial_record import Status, TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec

# Of the specs of one question, returns those that every other is compared with.
ComparedWith = Callable[[Sequence[TrialSpec]], Sequence[TrialSpec]]


def none_in_particular(_: Sequence[TrialSpec]) -> Sequence[TrialSpec]:
    """Return no spec: no row is compared with another more than with the rest."""
    return ()


@dataclass(frozen=True)
class Companions:
    """The stored rows of a question that are timed again beside its new trials.

    Attributes:
        records: theirs.
        left_out: by the reason, labels of rows that should be among them and cannot.
    """

    records: tuple[TrialRecord, ...] = ()
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def companions_of(
    new: Sequence[TrialSpec],
    stored: Iterable[TrialRecord],
    why_not: Callable[[TrialRecord], str],
    compared_with: ComparedWith,
) -> Companions:
    """Return the stored rows that are timed again beside new trials of one question.

    They are the rows that every other is compared with. Where such a row is itself new, or none
    can be timed, they are all stored rows of the question: else a ratio would be missing.

    Args:
        new: the trials that will be timed, of one question.
        stored: all records there are, oldest first.
        why_not: returns why a record's trial cannot be timed again here; empty if it can.
        compared_with: knows the rows that every other is compared with.
    """
    fresh = {spec.row_id() for spec in new}
    rows = {row: asked for row, asked in _asked_alike(new[0], stored).items() if row not in fresh}
    specs = [*new, *(found[-1].spec for found in rows.values())]
    wanted = {spec.row_id() for spec in compared_with(specs)}
    timed = {row: [one for one in found if _was_timed(one)] for row, found in rows.items()}
    can = {row: [one for one in found if not why_not(one)] for row, found in timed.items()}
    if wanted & fresh or not any(can[row] for row in wanted & can.keys()):
        wanted = set(rows)
    chosen = [row for row in rows if row in wanted and timed[row]]
    left_out: dict[str, tuple[str, ...]] = {}
    for last in (timed[row][-1] for row in chosen if not can[row]):
        why = why_not(last)
        left_out[why] = (*left_out.get(why, ()), last.label())
    return Companions(tuple(_as_reports_take(can[row]) for row in chosen if can[row]), left_out)


def _asked_alike(spec: TrialSpec, stored: Iterable[TrialRecord]) -> dict[str, list[TrialRecord]]:
    """Return by row the records of trials of the same question that were to be timed."""
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
    """Return the record of a row that reports show: the one that measured most, newest of equals.

    A row has several where it was profiled at several settings.
    """
    return max(reversed(records), key=TrialRecord.measured)
