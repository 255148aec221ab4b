"""The numbers of a metric in a record, as a list whether it has one or many."""

from bsrbench.harness.records.trial_record import TrialRecord, Value


def numbers(record: TrialRecord, metric: str) -> list[float]:
    """Return a metric's samples, or its one value; nothing where it was not measured."""
    return as_numbers(record.measurements.get(metric))


def as_numbers(value: Value) -> list[float]:
    """Return samples, or one value, as a list; nothing where there is none."""
    if value is None:
        return []
    return list(map(float, value)) if isinstance(value, list) else [float(value)]
