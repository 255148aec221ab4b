"""The numbers of a metric in a record, always as a list."""

from bsrbench.harness.records.trial_record import TrialRecord, Value


def numbers(record: TrialRecord, metric: str) -> list[float]:
    """Return a metric's samples or its single value; empty if it was not measured."""
    return as_numbers(record.measurements.get(metric))


def as_numbers(value: Value) -> list[float]:
    """Return samples or a single value as a list; empty if there is none."""
    if value is None:
        return []
    return list(map(float, value)) if isinstance(value, list) else [float(value)]
