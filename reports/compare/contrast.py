"""A new row compared with a baseline row: findings, differing settings and remarks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from bsrbench.reports import units
from bsrbench.reports.compare import metric_finding
from bsrbench.reports.compare.comparison import Details
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.data_wait import bound_by_loader
from bsrbench.reports.compare.deciding_settings import mixed_settings
from bsrbench.reports.compare.differences import RowDifference, unlike
from bsrbench.reports.compare.disturbed_times import read_cpu_time
from bsrbench.reports.compare.metric_finding import (
    IN_TURNS,
    JUDGED,
    MetricFinding,
    TaskFinding,
    judged_ratio,
)
from bsrbench.reports.compare.power import FEWEST_FOR_SPREAD, MOST_PAIRS, pairs_to_show
from bsrbench.reports.compare.seed_pairing import ACCURACY, Pairing, who_had_which
from bsrbench.reports.compare.statistics import (
    Difference,
    Summary,
    corrected_ps,
    holm,
    mean_and_range,
)
from bsrbench.reports.compare.time_ratios import in_turns
from bsrbench.reports.compare.verdict import fewest_pairs, with_others

STEP = "step_seconds"


@dataclass(frozen=True)
class Spread:
    """The spread of a row's accuracies over seeds and over learning rates.

    Attributes:
        label: the row's label.
        over_seeds: spread of the test accuracy over seeds.
        over_rates: spread of the validation accuracy over the learning rates tried.
    """

    label: str
    over_seeds: Summary | None
    over_rates: Summary | None


@dataclass(frozen=True)
class Contrast:
    """The comparison of two rows.

    Attributes:
        new: the row in question.
        baseline: the row compared with.
        seeds: the seeds with which each row was tested.
        findings: one per metric of which either row has a value.
        tasks: the accuracies per task, if there are several tasks.
        unlike: settings and circumstances in which the two rows differ.
        spreads: the spreads of both rows.
        remarks: other notes for readers: failures, doubts, settings.
        setting: the workload of both rows, as one line.
    """

    new: ComparisonRow
    baseline: ComparisonRow
    seeds: Pairing
    findings: tuple[MetricFinding, ...]
    tasks: tuple[TaskFinding, ...]
    unlike: tuple[RowDifference, ...]
    spreads: tuple[Spread, ...]
    remarks: tuple[str, ...]
    setting: str

    def find(self, metric: str) -> MetricFinding | None:
        """Return the finding for a metric; ``None`` if neither row has a value."""
        return next((finding for finding in self.findings if finding.metric == metric), None)


@dataclass(frozen=True)
class Pair:
    """Two rows to be compared, and their common question.

    Attributes:
        new: the row in question.
        baseline: the row compared with.
        setting: the workload of both rows, as one line.
        details: two functions that return sidecars: of the new row's records, and of the
            baseline's. Two folders may contain different records with the same key. ``None`` if
            both rows come from one pool.
    """

    new: ComparisonRow
    baseline: ComparisonRow
    setting: str
    details: tuple[Details, Details] | None = None


def contrast(pairs: Sequence[Pair], details: Details) -> list[Contrast]:
    """Compare rows in pairs; p values of each metric are corrected for the number of pairs.

    Args:
        pairs: the pairs of rows to compare.
        details: returns a record's sidecar by its key.
    """
    differences = [metric_finding.accuracies_apart(pair.new, pair.baseline) for pair in pairs]
    uncorrected = [
        difference.p for difference in differences if difference and difference.p is not None
    ]
    corrected = iter(holm(uncorrected))
    times = _times_tested(pairs)
    contrasts = []
    for pair, difference, tests in zip(pairs, differences, times, strict=True):
        p = next(corrected) if difference and difference.p is not None else None
        contrasts.append(_contrast(pair, difference, p, max(1, len(uncorrected)), tests, details))
    return contrasts


def _times_tested(pairs: Sequence[Pair]) -> list[dict[str, tuple[float | None, int]]]:
    """Return, for each pair and each time, the corrected p value and the number of comparisons."""
    tests: list[dict[str, tuple[float | None, int]]] = [{} for _ in pairs]
    for metric in IN_TURNS:
        ps = corrected_ps(judged_ratio(metric, pair.new, pair.baseline) for pair in pairs)
        comparisons = len(ps) - ps.count(None)
        for test, p in zip(tests, ps, strict=True):
            test[metric] = p, comparisons
    return tests


def _contrast(
    pair: Pair,
    apart: Difference | None,
    p: float | None,
    comparisons: int,
    times_tested: Mapping[str, tuple[float | None, int]],
    details: Details,
) -> Contrast:
    new, baseline = pair.new, pair.baseline
    accuracy = metric_finding.of_accuracy(new, baseline, apart, p, comparisons)
    findings = [
        accuracy
        if metric == ACCURACY
        else metric_finding.of_metric(metric, new, baseline, *times_tested.get(metric, ()))
        for metric in JUDGED
    ]
    return Contrast(
        new,
        baseline,
        Pairing.of(new, baseline),
        tuple(
            finding
            for finding in findings
            if new.value(finding.metric) is not None or baseline.value(finding.metric) is not None
        ),
        tuple(metric_finding.of_tasks(new, baseline)),
        tuple(unlike(new, baseline, pair.details or (details, details))),
        (_spread(new), _spread(baseline)),
        tuple(_remarks(new, baseline, apart, comparisons)),
        pair.setting,
    )


def _spread(row: ComparisonRow) -> Spread:
    spec = row.trained()
    tries = spec.training.tries if spec and spec.training else ()
    tried = [t.validation_accuracy for t in tries if t.validation_accuracy is not None]
    return Spread(row.label, row.accuracy(), mean_and_range(tried))


def _remarks(
    new: ComparisonRow, baseline: ComparisonRow, apart: Difference | None, comparisons: int
) -> Iterator[str]:
    rows = (new, baseline)
    yield from (f"{row.label}, {line}" for row in rows for line in row.failures())
    yield from who_had_which(new, baseline)
    yield from (f"{row.label}: {note}" for row in rows for note in bound_by_loader(row))
    yield from (f"{row.label}: {note.text}" for row in rows for note in row.notes())
    yield from read_cpu_time(rows)
    yield from (f"{row.label}: {doubt}" for row in rows for doubt in row.doubts_about_its_rate())
    yield from (
        f"{row.label}: its records were made under different settings ({mixed})"
        for row in rows
        for mixed in mixed_settings(row.records)
    )
    yield from _taken_again(new, baseline)
    if apart is not None and apart.p is not None:
        yield from _seeds_needed(apart, metric_finding.differences(new, baseline), comparisons)


def _seeds_needed(apart: Difference, differences: list[float], comparisons: int) -> Iterator[str]:
    """Yield a note: how many seeds detect a difference as large as the observed one.

    Args:
        apart: the observed mean difference.
        differences: the difference of each pair; at least two, not all equal.
        comparisons: the number of simultaneous comparisons.
    """
    if apart.pairs < FEWEST_FOR_SPREAD:
        yield (
            f"{apart.pairs} pairs of seeds are too few to estimate their spread, so it is not "
            "known how many seeds would detect the observed difference"
        )
    elif apart.centre and fewest_pairs(comparisons) is not None:
        needed = pairs_to_show(apart.centre / stdev(differences), comparisons)
        many = f"more than {MOST_PAIRS:,}" if needed is None else str(needed)
        yield (
            "if the true difference in accuracy and its spread are as observed, "
            f"{many} seeds detect it with 80 % power{with_others(comparisons)}; "
            f"{apart.pairs} were compared"
        )


def _taken_again(new: ComparisonRow, baseline: ComparisonRow) -> list[str]:
    """Return a note for each row whose times do not come from its own record."""
    turns = in_turns(new, baseline) or ()
    return [
        f"{row.label}: its times here were measured again on {taken.finished_at[:10]}, in turns "
        f"with new rows; its own record has {units.milliseconds(row.value(STEP))} ms per step"
        for row, taken in zip((new, baseline), turns, strict=False)
        if taken.group != row.round_group()
    ]
