"""Conditions under which a comparison fails, for continuous integration."""

import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports import units
from bsrbench.reports.compare.contrast import Contrast
from bsrbench.reports.compare.counterparts import UnpairedRow
from bsrbench.reports.compare.metric_finding import IN_TURNS, JUDGED, MetricFinding, judged_ratio
from bsrbench.reports.compare.seed_pairing import ACCURACY
from bsrbench.reports.compare.time_limits import MOST_GENERATIONS, TimeLimit, corrected
from bsrbench.reports.compare.verdict import with_others

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


@dataclass(frozen=True)
class Judged:
    """What conditions say about comparisons, one line for each reason.

    Attributes:
        failed: why comparisons fail; a missing value is a failure.
        undecided: which conditions on times are undecided, and what would decide them.
    """

    failed: tuple[str, ...]
    undecided: tuple[str, ...] = ()


def judge(
    contrasts: Iterable[Contrast],
    conditions: Iterable[Condition],
    alone: Iterable[UnpairedRow] = (),
) -> Judged:
    """Judge comparisons by conditions.

    A condition on the ratio or the difference of times is judged by the interval of the ratio.
    Every other condition is judged by its number.

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
    pairs = [(contrast, condition) for contrast in contrasts for condition in checked]
    limits = {place: limit for place, pair in enumerate(pairs) if (limit := _time_limit(*pair))}
    tested = dict(zip(limits, corrected(list(limits.values())), strict=True))
    undecided = []
    for place, pair in enumerate(pairs):
        limit = limits.get(place)
        if limit is None:
            lines.append(_failure(*pair))
        elif (beyond := limit.decided(tested[place])) is None:
            undecided.append(_undecided(*pair, limit, len(limits)))
        elif beyond:
            lines.append(_beyond(*pair, limit))
    return Judged(tuple(filter(None, lines)), tuple(undecided))


def _time_limit(contrast: Contrast, condition: Condition) -> TimeLimit | None:
    """Return a condition as a limit on the ratio of times; ``None`` if it is on another number.

    A limit on the difference is one on the ratio: the baseline's time is taken as it is.
    """
    finding = contrast.find(condition.metric)
    if condition.metric not in IN_TURNS or finding is None or not finding.baseline:
        return None
    limit = {"ratio": condition.bound, "difference": 1 + condition.bound / finding.baseline}.get(
        condition.function
    )
    ratio = judged_ratio(condition.metric, contrast.new, contrast.baseline)
    if limit is None or ratio is None or ratio.low is None:
        return None
    return TimeLimit(ratio, limit, lambda number: OPERATORS[condition.operator](number, limit))


def _beyond(contrast: Contrast, condition: Condition, limit: TimeLimit) -> str:
    return f"{_where(contrast)}: {condition}: {_value(contrast, condition, limit)}"


def _undecided(contrast: Contrast, condition: Condition, limit: TimeLimit, limits: int) -> str:
    """Return why a condition is undecided, and what decides it."""
    ratio, needed = limit.ratio, limit.generations_needed(limits)
    contained = ratio.low is not None and ratio.low <= limit.limit <= (ratio.high or 0.0)
    why = (
        "the interval contains the limit"
        if contained
        else f"the interval excludes the limit, but the test does not pass{with_others(limits)}"
    )
    many = f"more than {MOST_GENERATIONS:,}" if needed is None else f"about {needed:,}"
    return (
        f"{_where(contrast)}: {condition}: {_value(contrast, condition, limit)} over "
        f"{ratio.generations} process generations, and {why}. The limit is "
        f"{units.margin(limit.margin())} from the ratio: {many} generations decide, if the ratio "
        "and its spread stay the same"
    )


def _value(contrast: Contrast, condition: Condition, limit: TimeLimit) -> str:
    """Return the value of a condition on times, with the interval of the ratio."""
    ratio, number = limit.ratio, _number(contrast, condition)
    interval = f"[{ratio.low:.4g}, {ratio.high:.4g}]"
    if condition.function == "ratio":
        return f"the value is {number:.4g} {interval}"
    return f"the value is {number:.4g}, the ratio {ratio.centre:.4g} {interval}"


def _where(contrast: Contrast) -> str:
    return f"{contrast.new.label} against {contrast.baseline.label} ({contrast.setting})"


def _failure_alone(alone: UnpairedRow, condition: Condition) -> str:
    where, metric = f"{alone.row.label} ({alone.setting})", condition.metric
    number = alone.row.value(metric)
    if number is None:
        return f"{where}: {condition} cannot be decided: {alone.row.why_missing(metric)}"
    return f"{where}: {condition}: the value is {number:g}" if condition.holds(number) else ""


def _failure(contrast: Contrast, condition: Condition) -> str:
    where, number = _where(contrast), _number(contrast, condition)
    if number is None or _lacks_interval(contrast, condition):
        return f"{where}: {condition} cannot be decided: {_why(contrast, condition.metric)}"
    over = contrast.seeds.over() if condition.metric == ACCURACY else ""
    line = f"{where}: {condition}: the value is {number:g} {over}".rstrip()
    return line if condition.holds(number) else ""


def _lacks_interval(contrast: Contrast, condition: Condition) -> bool:
    """Tell whether the ratio of times of a condition has too few generations for an interval."""
    finding = contrast.find(condition.metric)
    judged_by_ratio = condition.metric in IN_TURNS and condition.function in {"ratio", "difference"}
    return judged_by_ratio and finding is not None and finding.low is None


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
