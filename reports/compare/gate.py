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
    """What must not be so.

    Attributes:
        function: of ``FUNCTIONS``: new over baseline, new minus baseline, the new value, the
            baseline's. Of the test accuracy all four are taken over the seeds that both rows have.
        metric: a name in ``METRICS``, in its own unit.
        operator: of ``OPERATORS``.
        bound: the number compared with.
    """

    function: str
    metric: str
    operator: str
    bound: float

    def holds(self, number: float) -> bool:
        """Tell whether a number is what it must not be."""
        return OPERATORS[self.operator](number, self.bound)

    def __str__(self) -> str:
        """Return the condition as it is written."""
        return f"{self.function}({self.metric}) {self.operator} {self.bound:g}"


def parse(text: str) -> Condition:
    """Read a condition such as ``ratio(peak_counted_bytes) > 1.02``.

    Raises:
        BadInput: it is none, or names a function or metric that is not there.
    """
    found = SHAPE.fullmatch(text)
    if found is None:
        raise BadInput(
            f"{text!r}: expected FUNCTION(METRIC) OPERATOR NUMBER, as in "
            "'ratio(peak_counted_bytes) > 1.02' or 'difference(accuracy_top1) < -0.01'; functions: "
            f"{', '.join(FUNCTIONS)}; operators: {', '.join(OPERATORS)}"
        )
    function, metric, sign, bound = found.groups()
    if function not in FUNCTIONS:
        raise unknown("function", function, FUNCTIONS)
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    try:
        number = float(bound)
    except ValueError:
        raise BadInput(f"{text!r}: {bound!r} is no number") from None
    if not math.isfinite(number):
        raise BadInput(
            f"{text!r}: {bound} bounds nothing, so the condition would decide nothing; expected a "
            "finite number, as 1.02"
        )
    return Condition(function, metric, sign, number)


def parse_judged(text: str) -> Condition:
    """Read a condition on what ``compare`` puts side by side.

    Raises:
        BadInput: as ``parse``, or it asks how a metric compares that is not judged.
    """
    condition = parse(text)
    if condition.function in {"ratio", "difference"} and condition.metric not in JUDGED:
        raise BadInput(
            f"{text!r}: compare does not judge {condition.metric}; it judges "
            f"{', '.join(sorted(JUDGED))}. Of others value(...) and baseline(...) can be taken"
        )
    return condition


def failures(
    contrasts: Iterable[Contrast],
    conditions: Iterable[Condition],
    alone: Iterable[UnpairedRow] = (),
) -> list[str]:
    """Return why comparisons fail, a line each; what has no value cannot pass.

    Args:
        contrasts: what was compared.
        conditions: what must not be so; without any nothing fails.
        alone: rows that could not be compared. One that the new results have lost fails; of a new
            one its own values are judged.
    """
    wanted = list(conditions)
    found = list(alone)
    said = [f"{one.said}: what is gone cannot pass" for one in found if one.lost and wanted]
    said += [
        _failure_alone(one, condition)
        for one in found
        for condition in wanted
        if condition.function == "value" and not one.of_baseline
    ]
    said += [_failure(contrast, condition) for contrast in contrasts for condition in wanted]
    return [line for line in said if line]


def _failure_alone(alone: UnpairedRow, condition: Condition) -> str:
    where, metric = f"{alone.row.label} ({alone.setting})", condition.metric
    number = alone.row.value(metric)
    if number is None:
        return f"{where}: {condition} cannot be decided: {alone.row.why_missing(metric)}"
    return f"{where}: {condition}, for it is {number:g}" if condition.holds(number) else ""


def _failure(contrast: Contrast, condition: Condition) -> str:
    where = f"{contrast.new.label} against {contrast.baseline.label} ({contrast.setting})"
    number = _number(contrast, condition)
    if number is None:
        return f"{where}: {condition} cannot be decided: {_why(contrast, condition.metric)}"
    over = contrast.seeds.over() if condition.metric == ACCURACY else ""
    said = f"{where}: {condition}, for it is {number:g} {over}".rstrip()
    return said if condition.holds(number) else ""


def _number(contrast: Contrast, condition: Condition) -> float | None:
    found = contrast.find(condition.metric) or MetricFinding(
        condition.metric,
        contrast.new.value(condition.metric),
        contrast.baseline.value(condition.metric),
    )
    return {
        "ratio": found.ratio,
        "difference": found.difference,
        "value": found.new,
        "baseline": found.baseline,
    }[condition.function]


def _why(contrast: Contrast, metric: str) -> str:
    """Return why a metric has no such number: what its finding says, else its records."""
    found = contrast.find(metric)
    if found and found.verdict.why:
        return found.verdict.why
    rows = (contrast.new, contrast.baseline)
    return "; ".join(
        f"{row.label}: {row.why_missing(metric)}" for row in rows if row.value(metric) is None
    )
