"""Which trials of a method, its options and its workload form one row."""

from bsrbench.harness.records.trial_record import TrialRecord


def rows_among(records: list[TrialRecord]) -> list[list[TrialRecord]]:
    """Return the records of each row: one row per learning rate, with one record per seed.

    Args:
        records: records of one machine, in order; they differ in seed, in what was measured, and
            in how the learning rate was chosen.
    """
    return [_one_training_a_seed(group) for group in _by_rate(_one_profile(records))]


def _one_profile(records: list[TrialRecord]) -> list[TrialRecord]:
    """Keep only the profile with the most measurements; of several, the newest."""
    profiles = [record for record in records if not record.spec.training]
    if len(profiles) < 2:  # noqa: PLR2004 - the usual case
        return records
    fullest = max(reversed(profiles), key=TrialRecord.measured)
    return [record for record in records if record.spec.training or record is fullest]


def _one_training_a_seed(records: list[TrialRecord]) -> list[TrialRecord]:
    """Keep only the newest training of each seed; others may have other learning rates tried."""
    newest: dict[int, TrialRecord] = {}
    for record in records:
        if record.spec.training:
            known = newest.setdefault(record.spec.seed, record)
            newest[record.spec.seed] = max(record, known, key=lambda r: r.finished_at)
    return [r for r in records if not r.spec.training or r is newest[r.spec.seed]]


def _by_rate(records: list[TrialRecord]) -> list[list[TrialRecord]]:
    """Return one list of records per learning rate, each with all profiles."""
    rates = dict.fromkeys(rate for r in records if (rate := r.spec.rates()))
    if len(rates) < 2:  # noqa: PLR2004 - the usual case
        return [records]
    return [[r for r in records if r.spec.rates() in {None, rate}] for rate in rates]
