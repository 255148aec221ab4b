"""A contrast as the text of tables and sentences; writers only draw them."""

from collections.abc import Sequence

from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports import units
from bsrbench.reports.compare.contrast import Contrast, Spread
from bsrbench.reports.compare.metric_finding import JUDGED, MetricFinding
from bsrbench.reports.compare.seed_pairing import ACCURACY, Pairing
from bsrbench.reports.compare.statistics import CONFIDENCE, Summary
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
    f"Intervals are at {100 * CONFIDENCE:g} %: of accuracies Student's t of the mean difference, "
    "seed by seed (beyond 20 pairs the bootstrap's BCa), of times Student's t of the logarithms of "
    "the rounds' ratios. Accuracies are called better or worse only if the sign-flip test, "
    "corrected by Holm for the number of comparisons, agrees. Accuracies, their difference and "
    "their ratio are over the seeds that both rows have. Bytes and FLOPs of a fixed shape are "
    "exact."
)


def rows(contrast: Contrast) -> list[list[str]]:
    """Return a row of text for each metric, columns as ``TITLES``."""
    return [_row(found) for found in contrast.findings]


def _row(found: MetricFinding) -> list[str]:
    unit = units.of_metric(found.metric)
    return [
        units.heading(found.metric),
        unit(found.new),
        unit(found.baseline),
        units.signed(unit, found.difference),
        units.ratio(found.ratio),
        _interval(found),
        units.count(found.pairs) if found.pairs else units.NOTHING,
        str(found.verdict),
    ]


def _interval(found: MetricFinding) -> str:
    if found.low is None or found.high is None:
        return units.NOTHING
    if found.metric == ACCURACY:
        ends = [units.signed(units.share, end) for end in (found.low, found.high)]
    else:
        ends = [units.plain(end) for end in (found.low, found.high)]
    return f"[{', '.join(ends)}]"


def reasons(contrast: Contrast) -> list[str]:
    """Return why there is no clear verdict, metrics with one reason together."""
    metrics: dict[str, list[str]] = {}
    for found in contrast.findings:
        if found.verdict.why and found.verdict.word in {VerdictWord.INCONCLUSIVE, VerdictWord.NONE}:
            said = f"{found.verdict.word}: {found.verdict.why}"
            metrics.setdefault(said, []).append(found.metric)
    return [f"{', '.join(names)} {why}" for why, names in metrics.items()]


def summary(contrasts: Sequence[Contrast]) -> list[str]:
    """Return a paragraph a contrast: who against whom, on what, and what came out."""
    return [_sentence(contrast) for contrast in contrasts]


def _sentence(contrast: Contrast) -> str:
    parts = []
    for metric, words in IN_WORDS.items():
        found = contrast.find(metric)
        if found is not None:
            parts.append(f"{words} {_short(found, contrast.seeds)}")
    said = "; ".join(parts) or "nothing was measured of either"
    return f"{contrast.new.label} against {contrast.baseline.label} on {contrast.setting}: {said}."


def _short(found: MetricFinding, seeds: Pairing) -> str:
    if found.metric == ACCURACY and found.difference is not None:
        parts = (units.signed(units.share, found.difference), seeds.over())
        return f"{found.verdict} ({' '.join(parts).rstrip()})"
    return f"{found.verdict} ({units.ratio(found.ratio)})" if found.ratio else str(found.verdict)


def unlike_rows(contrast: Contrast) -> list[list[str]]:
    """Return name, new value and baseline value of all that differs between the two rows."""
    return [[found.name, found.new, found.baseline] for found in contrast.unlike]


def task_rows(contrast: Contrast) -> list[list[str]]:
    """Return a row of text for each of several tasks, columns as ``TASK_TITLES``."""
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
    """Return a line a row: how far accuracies lie apart over seeds, and over learning rates."""
    return [line for spread in contrast.spreads if (line := _spread(spread))]


def _spread(spread: Spread) -> str:
    parts = []
    if spread.over_seeds:
        parts.append(f"test accuracy over seeds {_range(spread.over_seeds)}")
    if spread.over_rates:
        parts.append(f"validation accuracy over learning rates tried {_range(spread.over_rates)}")
    return f"{spread.label}: {'; '.join(parts)}" if parts else ""


def _range(found: Summary) -> str:
    return f"{units.share(found.low)} to {units.share(found.high)} ({found.count})"


def definitions(contrasts: Sequence[Contrast]) -> list[tuple[str, str]]:
    """Return the definition of every metric shown, each once."""
    shown = dict.fromkeys(found.metric for c in contrasts for found in c.findings)
    return [(metric, METRICS[metric].definition) for metric in shown]
