"""Which records of a method stand for a row, and which make a row of their own."""

from harness.record import TrialRecord


def one_profile(records: list[TrialRecord]) -> list[TrialRecord]:
    """Leave out all profiles but the one that measured most, the newest of equals."""
    profiles = [record for record in records if not record.spec.training]
    if len(profiles) < 2:  # noqa: PLR2004 - the usual case
        return records
    fullest = max(reversed(profiles), key=TrialRecord.measured)
    return [record for record in records if record.spec.training or record is fullest]


def one_training_a_seed(records: list[TrialRecord]) -> list[TrialRecord]:
    """Leave out all trainings of a seed but the newest: they may differ in what else was tried."""
    newest: dict[int, TrialRecord] = {}
    for record in records:
        if record.spec.training:
            known = newest.setdefault(record.spec.seed, record)
            newest[record.spec.seed] = max(record, known, key=lambda r: r.finished_at)
    return [r for r in records if not r.spec.training or r is newest[r.spec.seed]]


def by_rate(records: list[TrialRecord]) -> list[list[TrialRecord]]:
    """Return records apart that were trained with different learning rates, profiles with each."""
    rates = dict.fromkeys(rate for r in records if (rate := rates_of(r)))
    if len(rates) < 2:  # noqa: PLR2004 - the usual case
        return [records]
    return [[r for r in records if rates_of(r) in {None, rate}] for rate in rates]


def rates_of(record: TrialRecord) -> tuple[float, float] | None:
    """Return the learning rate at its peak and at its end; ``None`` where nothing is trained."""
    training = record.spec.training
    return (training.learning_rate, training.final_learning_rate) if training else None
