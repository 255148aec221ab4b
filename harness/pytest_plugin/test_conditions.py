"""The conditions of --bsrbench-fail-if, evaluated for each test."""

from collections.abc import Iterable

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.pytest_plugin.result import Result
from bsrbench.reports.compare.gate import Condition


def failures(conditions: Iterable[Condition], result: Result) -> list[str]:
    """Return one sentence for each condition that fails; a missing value also fails."""
    sentences = (_failure(condition, result) for condition in conditions)
    return [sentence for sentence in sentences if sentence]


def _failure(condition: Condition, result: Result) -> str:
    try:
        number = _number(condition, result)
    except Unreadable as reason:
        return f"{condition} cannot be decided: {reason}"
    return f"{condition}: the value is {number}" if condition.holds(number) else ""


def _number(condition: Condition, result: Result) -> float:
    read = {
        "ratio": result.ratio,
        "difference": result.difference,
        "value": result.value,
        "baseline": result.baseline_value,
    }
    return read[condition.function](condition.metric)
