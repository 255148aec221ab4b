"""The result of measuring a method, alone or with a baseline."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bsrbench.harness.errors import Unreadable, unknown
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import Measured
from bsrbench.harness.spec.trial_spec import TrialSpec

STEP_SECONDS = "step_seconds"
# Metrics of a report's main table that are reproduced exactly.
EXACT = tuple(
    name
    for name, metric in METRICS.items()
    if metric.column("main") is not None and metric.is_judged("exact")
)
NOT_ASKED = "the fixture bsrbench does not measure it; try 'bsrbench profile'"
NO_BASELINE = "no baseline was named (baseline=..., or --bsrbench-baseline METHOD)"


@dataclass(frozen=True)
class Result:
    """What was measured of one trial.

    Attributes:
        spec: the trial.
        measurements: metric -> value, by the definitions in ``harness/records/metrics.py``;
            ``step_seconds`` holds the seconds of each timed step.
        missing: metric -> why there is no value.
        notes: what a reader of the numbers must know.
        baseline: the result of the baseline.
    """

    spec: TrialSpec
    measurements: Mapping[str, Measured]
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    baseline: "Result | None" = None

    def value(self, metric: str) -> float:
        """Return a metric's value; if it has samples, their median.

        Raises:
            BadInput: there is no such metric.
            Unreadable: it has no value here; the message says why.
        """
        if metric not in METRICS:
            raise unknown("metric", metric, METRICS)
        measured = self.measurements.get(metric)
        if measured is None:
            raise Unreadable(f"no {metric}: {self.missing.get(metric, NOT_ASKED)}")
        return median(measured) if isinstance(measured, Sequence) else measured

    def baseline_value(self, metric: str) -> float:
        """Return the baseline's value.

        Raises:
            BadInput: there is no such metric.
            Unreadable: there is no baseline, or it has no value.
        """
        if self.baseline is None:
            raise Unreadable(NO_BASELINE)
        return self.baseline.value(metric)

    def difference(self, metric: str) -> float:
        """Return the value minus the baseline's; raises as ``ratio`` does."""
        return self.value(metric) - self.baseline_value(metric)

    def ratio(self, metric: str) -> float:
        """Return the ratio to the baseline; for step times, the median ratio of pairs of steps.

        Raises:
            BadInput: there is no such metric.
            Unreadable: one of the two has no value, there is no baseline, or its value is 0.
        """
        ours, theirs = self.value(metric), self.baseline_value(metric)
        if metric == STEP_SECONDS:
            return median(self.step_ratios())
        if not theirs:
            raise Unreadable(f"no ratio: the baseline's {metric} is 0")
        return ours / theirs

    def step_ratios(self) -> list[float]:
        """Return the ratio of each timed step's seconds to those of the baseline step before it."""
        beside = None if self.baseline is None else self.baseline.measurements.get(STEP_SECONDS)
        ours = self.measurements.get(STEP_SECONDS)
        if not isinstance(ours, list) or not isinstance(beside, list):
            return []
        return [a / b for a, b in zip(ours, beside, strict=True)]


def number_or_none(read: Callable[[str], float], metric: str) -> float | None:
    """Return a number of a ``Result``; ``None`` if it has no value."""
    try:
        return read(metric)
    except Unreadable:
        return None


def extra_info(result: Result) -> dict[str, Any]:
    """Return the additional values for pytest-benchmark's JSON."""
    info: dict[str, Any] = {
        "method": result.spec.label(),
        "workload": result.spec.workload.model_dump(mode="json"),
        "missing": {name: why for name, why in result.missing.items() if name in EXACT},
        "notes": list(result.notes),
    }
    info |= {metric: number_or_none(result.value, metric) for metric in EXACT}
    if result.baseline is None:
        return info
    ratios = (*EXACT, STEP_SECONDS)
    return info | {
        "baseline": result.baseline.spec.label(),
        "step_seconds_ratios": result.step_ratios(),
        **{f"{metric}_ratio": number_or_none(result.ratio, metric) for metric in ratios},
    }
