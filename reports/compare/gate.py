"""Conditions under which a comparison fails, for continuous integration."""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports.compare.contrast import Contrast
from bsrbench.reports.compare.counterparts import UnpairedRow
from bsrbench.reports.compare.metric_finding import JUDGED, MetricFinding
from bsrbench.reports.compare.seed_pairing import ACCURACY

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
FUNCTIONS = ("ratio", "difference", "value", "baseline")
SHAPE = re.compile(r"\s*(\w+)\s*\(\s*(\w+)\s*\)\s*(<=|>=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Condition:
    """A condition under which a comparison fails.

    Attributes:
        function: one of ``FUNCTIONS``: new divided by baseline, new minus baseline, the new value,
            the baseline's value. For the test accuracy all four use the seeds that both rows have.
        metric: a name in ``METRICS``, in its stored unit.
        operator: one of ``OPERATORS``.
        bound: the number with which the value is compared.
    """

    function: str
    metric: str
    operator: str
    bound: float

    def holds(self, number: float) -> bool:
        """Tell whether the condition holds for a number, so that the comparison fails."""
        return OPERATORS[self.operator](number, self.bound)

    def __str__(self) -> str:
        """Return the condition as it is written."""
        return f"{self.function}({self.metric}) {self.operator} {self.bound:g}"


def parse(text: str) -> Condition:
    """Read a condition such as ``ratio(peak_counted_bytes) > 1.02``.

    Raises:
        BadInput: the text is not a condition, or its function or metric is unknown.
    """
    match = SHAPE.fullmatch(text)
    if match is None:
        raise BadInput(
            f"{text!r}: expected FUNCTION(METRIC) OPERATOR NUMBER, as in "
            "'ratio(peak_counted_bytes) > 1.02' or 'difference(accuracy_top1) < -0.01'; functions: "
            f"{', '.join(FUNCTIONS)}; operators: {', '.join(OPERATORS)}"
        )
    function, metric, sign, bound = match.groups()
    if function not in FUNCTIONS:
        raise unknown("function", function, FUNCTIONS)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    try:
        number = float(bound)
    except ValueError:
        raise BadInput(f"{text!r}: {bound!r} is not a number") from None
    if not math.isfinite(number):
        raise BadInput(f"{text!r}: {bound} is not a finite number; expected a number such as 1.02")
    return Condition(function, metric, sign, number)


def parse_judged(text: str) -> Condition:
    """Read a condition on a comparison of two rows.

    Raises:
        BadInput: as in ``parse``, or the condition compares a metric that is not judged.
    """
    condition = parse(text)
    if condition.function in {"ratio", "difference"} and condition.metric not in JUDGED:
        raise BadInput(
            f"{text!r}: compare does not judge {condition.metric}; it judges "
            f"{', '.join(sorted(JUDGED))}. For other metrics use value(...) or baseline(...)"
        )
    return condition


def failures(
    contrasts: Iterable[Contrast],
    conditions: Iterable[Condition],
    alone: Iterable[UnpairedRow] = (),
) -> list[str]:
    """Return the reasons why comparisons fail, one line each; a missing value is a failure.

    Args:
        contrasts: the comparisons.
        conditions: the conditions under which they fail; without any, nothing fails.
        alone: rows without a counterpart. A baseline row that is missing in the new results is a
            failure. A new row is checked only against conditions on ``value``.
    """
    checked = list(conditions)
    unpaired = list(alone)
    lines = [f"{row.said}: a missing row cannot pass" for row in unpaired if row.lost and checked]
    lines += [
        _failure_alone(row, condition)
        for row in unpaired
        for condition in checked
        if condition.function == "value" and not row.of_baseline
    ]
    lines += [_failure(contrast, condition) for contrast in contrasts for condition in checked]
    return [line for line in lines if line]


def _failure_alone(alone: UnpairedRow, condition: Condition) -> str:
    where, metric = f"{alone.row.label} ({alone.setting})", condition.metric
    number = alone.row.value(metric)
    if number is None:
        return f"{where}: {condition} cannot be decided: {alone.row.why_missing(metric)}"
    return f"{where}: {condition}: the value is {number:g}" if condition.holds(number) else ""


def _failure(contrast: Contrast, condition: Condition) -> str:
    where = f"{contrast.new.label} against {contrast.baseline.label} ({contrast.setting})"
    number = _number(contrast, condition)
    if number is None:
        return f"{where}: {condition} cannot be decided: {_why(contrast, condition.metric)}"
    over = contrast.seeds.over() if condition.metric == ACCURACY else ""
    line = f"{where}: {condition}: the value is {number:g} {over}".rstrip()
    return line if condition.holds(number) else ""


def _number(contrast: Contrast, condition: Condition) -> float | None:
    finding = contrast.find(condition.metric) or MetricFinding(
        condition.metric,
        contrast.new.value(condition.metric),
        contrast.baseline.value(condition.metric),
    )
    return {
        "ratio": finding.ratio,
        "difference": finding.difference,
        "value": finding.new,
        "baseline": finding.baseline,
    }[condition.function]


def _why(contrast: Contrast, metric: str) -> str:
    """Return why a metric has no number, as stated by its finding or its records."""
    finding = contrast.find(metric)
    if finding and finding.verdict.why:
        return finding.verdict.why
    rows = (contrast.new, contrast.baseline)
    return "; ".join(
        f"{row.label}: {row.why_missing(metric)}" for row in rows if row.value(metric) is None
    )
