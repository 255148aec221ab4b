"""The range of values that each metric may have."""

from collections.abc import Mapping, Sequence
from typing import Any

from bsrbench.harness.plain_data import LARGEST
from bsrbench.harness.records.metric import Values
from bsrbench.harness.records.metrics import METRICS

MOST = LARGEST - 1
BOUNDS: dict[Values, tuple[int, int]] = {
    "not negative": (0, MOST),
    "signed": (-MOST, MOST),
    "share": (0, 1),
}
NUMBERS = (int, float)
RANGES = {name: (*BOUNDS[m.values], m.samples) for name, m in METRICS.items()}
# Each of these metrics has one number per reading of the curve.
CURVE = tuple(name for name, metric in METRICS.items() if metric.per == "reading")


def fault_of_values(measured: Mapping[str, Any]) -> str:
    """Return the first value that is not valid for its metric, and why; empty if all are valid."""
    for name, value in measured.items():
        if value is None:
            continue
        low, high, sampled = RANGES[name]
        if _plainly_fits(value, low, high) if not sampled else _samples_fit(value, low, high):
            continue
        if fault := fault_of_value(name, value):
            return f"measurements.{name} {fault}"
    return fault_of_curve([measured.get(name) for name in CURVE])


def _plainly_fits(value: Any, low: int, high: int) -> bool:
    """Return ``True`` if a number is certainly valid; ``False`` means that it may not be."""
    return type(value) in NUMBERS and low <= value <= high


def _samples_fit(value: Any, low: int, high: int) -> bool:
    """Return ``True`` if samples are certainly valid; ``False`` means that they may not be."""
    if type(value) is not list or not value:
        return False
    return low <= min(value) and max(value) <= high and sum(value) == sum(value)  # not NaN


def fault_of_curve(curve: Sequence[Any]) -> str:
    """Return the fault of a curve whose lists differ in length; empty if they do not."""
    lengths = [None if values is None else len(values) for values in curve]
    if len(set(lengths)) == 1:
        return ""
    by_name = ", ".join(f"{name} {n or 0}" for name, n in zip(CURVE, lengths, strict=True))
    return f"the lists of the curve differ in length: {by_name}"


def fault_of_value(name: str, value: Any) -> str:
    """Return why a value is not valid for a metric; empty if it is."""
    sampled = METRICS[name].samples
    if sampled != isinstance(value, list | tuple):
        return f"is {value!r:.40}, expected {'a list of samples' if sampled else 'a number'}"
    values = value if sampled else [value]
    if not values:
        return "has no samples; a metric without a value must be null"
    low, high = bounds_of(name)
    wrong = next((v for v in values if not low <= v <= high), None)
    if wrong is None:
        return ""
    least = "" if low < 0 else f" of at least {low}"
    most = f" and at most {high}" if high == 1 else " below 2**63"
    return f"is {wrong:.4g}, expected a number{least}{most}"


def bounds_of(name: str) -> tuple[int, int]:
    """Return the smallest and the largest value that a metric may have."""
    return BOUNDS[METRICS[name].values]
