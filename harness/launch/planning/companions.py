"""Choose the stored rows to time again in turns with new ones, so that their times compare."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from bsrbench.harness.launch.round_group import TIMED
from bsrbench.harness.records.trial_record import Status, TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec

# Returns, from the specs of one question, those that every other one is compared with.
ComparedWith = Callable[[Sequence[TrialSpec]], Sequence[TrialSpec]]


def none_in_particular(_: Sequence[TrialSpec]) -> Sequence[TrialSpec]:
    """Return no spec: there is no row that all others are compared with."""
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

    These are the rows that every other row is compared with. If such a row is itself new, or none
    of them can be timed, all stored rows of the question are timed again; otherwise a ratio would
    be missing.

    Args:
        new: the new trials of one question that will be timed.
        stored: all stored records, oldest first.
        why_not: returns why a record's trial cannot be timed again here; empty if it can.
        compared_with: chooses the rows that every other row is compared with.
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
    """Return the record of a row that reports show: the one with the most values, then the newest.

    A row has several records if it was profiled with several settings.
    """
    return max(reversed(records), key=TrialRecord.measured)
