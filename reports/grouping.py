"""Which records make one row, and what tells rows of one name apart."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

from harness.numbering import Numbering
from harness.record import TrialRecord
from harness.row_name import RowName
from reports.row import Row


def rows_of(records: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Return the records of each row: one method, options, workload, machine and learning rate."""
    grouped: dict[Hashable, list[TrialRecord]] = defaultdict(list)
    number = Numbering()
    for record in records:
        grouped[number.of_row(record.spec), record.environment["machine_id"]].append(record)
    return [
        _one_training_a_seed(group)
        for members in grouped.values()
        for group in _by_rate(_one_profile(members))
    ]


def _one_profile(records: list[TrialRecord]) -> list[TrialRecord]:
    """Leave out all profiles but the one that measured most, the newest of equals."""
    profiles = [record for record in records if not record.spec.training]
    if len(profiles) < 2:  # noqa: PLR2004 - the usual case
        return records
    fullest = max(reversed(profiles), key=TrialRecord.measured)
    return [record for record in records if record.spec.training or record is fullest]


def _one_training_a_seed(records: list[TrialRecord]) -> list[TrialRecord]:
    """Leave out all trainings of a seed but the newest: they may differ in what else was tried."""
    newest: dict[int, TrialRecord] = {}
    for record in records:
        if record.spec.training:
            known = newest.setdefault(record.spec.seed, record)
            newest[record.spec.seed] = max(record, known, key=lambda r: r.finished_at)
    return [r for r in records if not r.spec.training or r is newest[r.spec.seed]]


def _by_rate(records: list[TrialRecord]) -> list[list[TrialRecord]]:
    """Return records apart that were trained with different learning rates, profiles with each."""
    rates = dict.fromkeys(rate for r in records if (rate := r.spec.rates()))
    if len(rates) < 2:  # noqa: PLR2004 - the usual case
        return [records]
    return [[r for r in records if r.spec.rates() in {None, rate}] for rate in rates]


def told_apart(rows: list[Row]) -> list[Row]:
    """Return the rows; where several have one name, what tells them apart is in their labels."""
    places: dict[RowName, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.name].append(place)
    found = list(rows)
    for same in (alike for alike in places.values() if len(alike) > 1):
        facts = [rows[place].apart() for place in same]
        told = [kind for kind in facts[0] if len({fact[kind] for fact in facts}) > 1]
        for place, fact in zip(same, facts, strict=True):
            printed = replace(rows[place].printed, apart={kind: fact[kind] for kind in told})
            found[place] = replace(rows[place], printed=printed)
    return found
