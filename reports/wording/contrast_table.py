"""The tables and sentences of a comparison of two rows, as text for the writers."""

from collections.abc import Sequence

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import CONFIDENCE
from bsrbench.reports import units
from bsrbench.reports.compare.contrast import Contrast, Spread
from bsrbench.reports.compare.metric_finding import JUDGED, MetricFinding
from bsrbench.reports.compare.seed_pairing import ACCURACY, Pairing
from bsrbench.reports.compare.statistics import Summary
from bsrbench.reports.compare.verdict import VerdictWord

TITLES = (
    *("metric", "new", "baseline", "difference", "ratio"),
    *(f"interval [{100 * CONFIDENCE:g} %]", "pairs", "verdict"),
)
TASK_TITLES = ("task", "new", "baseline", "difference", "pairs")
IN_WORDS = {
    name: METRICS[name].words
    for name in JUDGED
    if METRICS[name].words and not METRICS[name].stands_in_for
}
METHOD = (
    f"Intervals are at {100 * CONFIDENCE:g} %. For accuracies: Student's t interval of the mean "
    "difference per seed (with more than 20 pairs: the BCa bootstrap). For times: Student's t "
    "interval of the logarithms of the ratios per process generation; it covers the variation "
    "between processes and between the rounds of a process, and not other machines. Intervals are "
    "not corrected for the number of comparisons, verdicts are: an accuracy is called better or "
    "worse only if the sign-flip test, with Holm's correction, agrees; a time only if the t test "
    "of its interval passes with Holm's correction. Accuracies, their difference and their ratio "
    "use only the seeds that both rows have. Bytes and FLOPs of fixed shapes are exact."
)


def rows(contrast: Contrast) -> list[list[str]]:
    """Return one row of text per metric, with the columns of ``TITLES``."""
    return [_row(finding) for finding in contrast.findings]


def _row(finding: MetricFinding) -> list[str]:
    unit = units.of_metric(finding.metric)
    return [
        units.heading(finding.metric),
        unit(finding.new),
        unit(finding.baseline),
        units.signed(unit, finding.difference),
        units.ratio(finding.ratio),
        _interval(finding),
        units.count(finding.pairs) if finding.pairs else units.NOTHING,
        str(finding.verdict),
    ]


def _interval(finding: MetricFinding) -> str:
    if finding.low is None or finding.high is None:
        return units.NOTHING
    if finding.metric == ACCURACY:
        ends = [units.signed(units.share, end) for end in (finding.low, finding.high)]
    else:
        ends = [units.plain(end) for end in (finding.low, finding.high)]
    return f"[{', '.join(ends)}]"


def reasons(contrast: Contrast) -> list[str]:
    """Return the reasons for unclear verdicts; metrics with the same reason share a line."""
    metrics: dict[str, list[str]] = {}
    for finding in contrast.findings:
        if finding.verdict.why and finding.verdict.word in {
            VerdictWord.INCONCLUSIVE,
            VerdictWord.NONE,
        }:
            reason = f"{finding.verdict.word}: {finding.verdict.why}"
            metrics.setdefault(reason, []).append(finding.metric)
    return [f"{', '.join(names)} {why}" for why, names in metrics.items()]


def summary(contrasts: Sequence[Contrast]) -> list[str]:
    """Return one sentence per contrast: the two rows, the setting and the verdicts."""
    return [_sentence(contrast) for contrast in contrasts]


def _sentence(contrast: Contrast) -> str:
    parts = []
    for metric, words in IN_WORDS.items():
        finding = contrast.find(metric)
        if finding is not None:
            parts.append(f"{words} {_short(finding, contrast.seeds)}")
    verdicts = "; ".join(parts) or "neither row has measurements"
    rows_and_setting = (
        f"{contrast.new.label} against {contrast.baseline.label} on {contrast.setting}"
    )
    return f"{rows_and_setting}: {verdicts}."


def _short(finding: MetricFinding, seeds: Pairing) -> str:
    if finding.metric == ACCURACY and finding.difference is not None:
        parts = (units.signed(units.share, finding.difference), seeds.over())
        return f"{finding.verdict} ({' '.join(parts).rstrip()})"
    if not finding.ratio:
        return str(finding.verdict)
    interval = "" if finding.low is None else f" {_interval(finding)}"
    return f"{finding.verdict} ({units.ratio(finding.ratio)}{interval})"


def unlike_rows(contrast: Contrast) -> list[list[str]]:
    """Return name, new value and baseline value of every setting in which the two rows differ."""
    return [
        [difference.name, difference.new, difference.baseline] for difference in contrast.unlike
    ]


def task_rows(contrast: Contrast) -> list[list[str]]:
    """Return one row of text per task, with the columns of ``TASK_TITLES``."""
    return [
        [
            task.task,
            *(units.share(value) for value in (task.accuracy.new, task.accuracy.baseline)),
            units.signed(units.share, task.accuracy.difference),
            units.count(task.accuracy.pairs),
        ]
        for task in contrast.tasks
    ]


def spreads(contrast: Contrast) -> list[str]:
    """Return one line per row: the range of accuracies over seeds and over learning rates."""
    return [line for spread in contrast.spreads if (line := _spread(spread))]


def _spread(spread: Spread) -> str:
    parts = []
    if spread.over_seeds:
        parts.append(f"test accuracy over seeds {_range(spread.over_seeds)}")
    if spread.over_rates:
        parts.append(f"validation accuracy over learning rates tried {_range(spread.over_rates)}")
    return f"{spread.label}: {'; '.join(parts)}" if parts else ""


def _range(spread: Summary) -> str:
    return f"{units.share(spread.low)} to {units.share(spread.high)} ({spread.count})"


def definitions(contrasts: Sequence[Contrast]) -> list[tuple[str, str]]:
    """Return the definitions of the metrics shown, without duplicates."""
    shown = dict.fromkeys(finding.metric for c in contrasts for finding in c.findings)
    return [(metric, METRICS[metric].definition) for metric in shown]
