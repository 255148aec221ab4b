"""One metric of two rows: values, difference, ratio, interval, verdict."""

from dataclasses import dataclass, field, replace
from statistics import fmean, median

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import Ratio
from bsrbench.reports.compare import verdict
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.record_numbers import as_numbers
from bsrbench.reports.compare.seed_pairing import ACCURACY, Pairing, mean_accuracy
from bsrbench.reports.compare.statistics import Difference, paired_difference
from bsrbench.reports.compare.time_ratios import in_turns, ratio_of_times
from bsrbench.reports.compare.verdict import Verdict, VerdictWord

BY_TASK = "accuracy_by_task"
_PLACES = {name: metric.judged.place for name, metric in METRICS.items() if metric.judged}
JUDGED = tuple(sorted(_PLACES, key=_PLACES.__getitem__))
IN_TURNS = tuple(name for name in JUDGED if METRICS[name].is_judged("in turns"))


@dataclass(frozen=True)
class MetricFinding:
    """One metric of a contrast.

    Attributes:
        metric: the name of the metric in ``METRICS``.
        new: value of the new row; for accuracies the mean over the seeds that both rows have. If
            it is ``None``, the verdict gives the reason. If there is a ratio of times, the value
            comes from the same round group as the ratio.
        baseline: value of the baseline row, from the same seeds and the same round group.
        difference: new minus baseline.
        ratio: new divided by baseline; for times the geometric mean over process generations.
        low: lower end of the interval. For accuracies it is the interval of the difference,
            otherwise of the ratio. ``None`` if the numbers are exact or have no spread.
        high: upper end of the interval.
        pairs: number of seeds or process generations that both rows have; 1 for exact numbers, 0
            if the rows are not compared.
        verdict: the verdict.
    """

    metric: str
    new: float | None
    baseline: float | None
    difference: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    verdict: Verdict = field(default_factory=lambda: Verdict(VerdictWord.NONE))


@dataclass(frozen=True)
class TaskFinding:
    """The accuracies of two rows on one of several tasks.

    Attributes:
        task: the name of the task.
        accuracy: the finding without a verdict, because only the mean over tasks is judged.
    """

    task: str
    accuracy: MetricFinding


NOT_PAIRED = Verdict(VerdictWord.NONE, "the rows have no seed in common")


def of_metric(
    metric: str,
    new: ComparisonRow,
    baseline: ComparisonRow,
    p: float | None = None,
    comparisons: int = 1,
) -> MetricFinding:
    """Compare two rows by a metric that is not an accuracy.

    Args:
        metric: the metric.
        new: the row in question.
        baseline: the row compared with.
        p: for times: p value of the ratio, corrected for the number of comparisons.
        comparisons: the number of simultaneous comparisons.
    """
    finding = _values(metric, new, baseline)
    if finding.new is None or finding.baseline is None:
        return finding
    if METRICS[metric].is_judged("in turns"):
        return _of_time(finding, new, baseline, p, comparisons)
    return _of_exact(finding, baseline)


def judged_ratio(metric: str, new: ComparisonRow, baseline: ComparisonRow) -> Ratio | None:
    """Return the ratio of two rows' times; ``None`` if the rows are not compared by it."""
    one_machine = new.machine() == baseline.machine()
    if one_machine and new.value(metric) and baseline.value(metric):
        return ratio_of_times(metric, new, baseline)
    return None


def accuracies_apart(new: ComparisonRow, baseline: ComparisonRow) -> Difference | None:
    """Return the mean difference of the accuracies, paired by seed."""
    return paired_difference(differences(new, baseline))


def differences(new: ComparisonRow, baseline: ComparisonRow) -> list[float]:
    """Return the new accuracy minus the baseline's, for each seed that both rows have."""
    ours, theirs = new.by_seed(ACCURACY), baseline.by_seed(ACCURACY)
    return [ours[seed] - theirs[seed] for seed in Pairing.of(new, baseline).both]


def of_tasks(new: ComparisonRow, baseline: ComparisonRow) -> list[TaskFinding]:
    """Compare the accuracies of two rows per task; only their mean is judged."""
    ours, theirs = new.by_task(), baseline.by_task()
    return [
        TaskFinding(task, _of_task(ours[task], theirs[task]))
        for task in ours
        if task in theirs and ours[task] and theirs[task]
    ]


def _of_task(ours: dict[int, float], theirs: dict[int, float]) -> MetricFinding:
    both = sorted(set(ours) & set(theirs))
    if not both:
        return MetricFinding(BY_TASK, None, None, verdict=NOT_PAIRED)
    return MetricFinding(
        BY_TASK,
        fmean(ours[seed] for seed in both),
        fmean(theirs[seed] for seed in both),
        difference=fmean(ours[seed] - theirs[seed] for seed in both),
        pairs=len(both),
        verdict=Verdict(VerdictWord.NONE, f"a part of {ACCURACY}, which is judged"),
    )


def of_accuracy(
    new: ComparisonRow,
    baseline: ComparisonRow,
    apart: Difference | None,
    p: float | None,
    comparisons: int,
) -> MetricFinding:
    """Judge the accuracies of two rows, using only the seeds that both have.

    Args:
        new: the row in question.
        baseline: the row compared with.
        apart: the result of ``accuracies_apart``.
        p: p value of its test, corrected for the number of comparisons.
        comparisons: the number of simultaneous comparisons.
    """
    finding = _values(ACCURACY, new, baseline)
    if finding.new is None or finding.baseline is None:
        return finding
    both = Pairing.of(new, baseline).both
    ours, theirs = mean_accuracy(new, both), mean_accuracy(baseline, both)
    if apart is None or ours is None or theirs is None:
        return MetricFinding(ACCURACY, None, None, verdict=NOT_PAIRED)
    return replace(
        finding,
        new=ours,
        baseline=theirs,
        difference=apart.centre,
        ratio=ours / theirs if theirs else None,
        low=apart.low,
        high=apart.high,
        pairs=apart.pairs,
        verdict=verdict.of_pairs(ACCURACY, apart, p, comparisons),
    )


def _values(metric: str, new: ComparisonRow, baseline: ComparisonRow) -> MetricFinding:
    """Return a finding with both values; if a value is missing, the verdict gives the reason."""
    missing = [
        f"{row.label}: {row.why_missing(metric)}"
        for row in (new, baseline)
        if row.value(metric) is None
    ]
    why = Verdict(VerdictWord.NONE, "; ".join(missing))
    return MetricFinding(metric, new.value(metric), baseline.value(metric), verdict=why)


def _of_exact(finding: MetricFinding, baseline: ComparisonRow) -> MetricFinding:
    if finding.new is None or finding.baseline is None:
        return finding
    apart = replace(finding, difference=finding.new - finding.baseline, pairs=1)
    if finding.baseline:
        ratio = finding.new / finding.baseline
        return replace(apart, ratio=ratio, verdict=verdict.of_exact(finding.metric, ratio))
    if not finding.new:
        return replace(apart, verdict=Verdict(VerdictWord.SAME, "at 0"))
    why = f"no ratio: {baseline.label} has 0"
    return replace(apart, verdict=Verdict(VerdictWord.NONE, why))


def _of_time(
    finding: MetricFinding,
    new: ComparisonRow,
    baseline: ComparisonRow,
    p: float | None,
    comparisons: int,
) -> MetricFinding:
    """Compare the times of two rows if the rows were timed in turns with each other."""
    if new.machine() != baseline.machine():
        why = "times of two machines are not compared"
        return MetricFinding(finding.metric, None, None, verdict=Verdict(VerdictWord.NONE, why))
    if not finding.new or not finding.baseline:  # the backward pass of method 'head' takes no time
        return replace(finding, verdict=Verdict(VerdictWord.NONE, "no ratio: a time is 0"))
    turns, ratio = in_turns(new, baseline), ratio_of_times(finding.metric, new, baseline)
    if turns is None or ratio is None:
        return replace(
            finding, verdict=Verdict(VerdictWord.NONE, "not timed in turns with each other")
        )
    # The rows' own records may have times of two other round groups, so they are not used.
    ours, theirs = (median(as_numbers(own.times.get(finding.metric))) for own in turns)
    return replace(
        finding,
        new=ours,
        baseline=theirs,
        difference=ours - theirs,
        ratio=ratio.centre,
        low=ratio.low,
        high=ratio.high,
        pairs=ratio.generations,
        verdict=verdict.of_time(finding.metric, ratio, p, comparisons),
    )
