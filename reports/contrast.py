"""A new row put against a baseline row: findings, what is unlike, what to know."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import stdev

from reports import finding, verdict
from reports.comparison import Details
from reports.finding import COMPARED, Finding
from reports.row import Row
from reports.statistics import (
    MOST_PAIRS,
    Difference,
    Summary,
    holm,
    mean_and_range,
    pairs_to_show,
)
from reports.unlike import Unlike, unlike


@dataclass(frozen=True)
class Spread:
    """How far accuracies of a row lie apart, by what was changed.

    Attributes:
        label: the row's.
        over_seeds: test accuracy over seeds.
        over_rates: validation accuracy over the learning rates tried.
    """

    label: str
    over_seeds: Summary | None
    over_rates: Summary | None


@dataclass(frozen=True)
class Contrast:
    """Two rows side by side.

    Attributes:
        new: the row in question.
        baseline: the row compared with.
        findings: a metric each, those that either row has.
        tasks: the accuracies of each of several tasks.
        unlike: settings and circumstances in which the two differ.
        spreads: of both rows.
        remarks: what else a reader must know.
        setting: what both were measured on, in a line.
    """

    new: Row
    baseline: Row
    findings: tuple[Finding, ...]
    tasks: tuple[Finding, ...]
    unlike: tuple[Unlike, ...]
    spreads: tuple[Spread, ...]
    remarks: tuple[str, ...]
    setting: str

    def find(self, metric: str) -> Finding | None:
        """Return what was found of a metric, if either row has it."""
        return next((found for found in self.findings if found.metric == metric), None)


@dataclass(frozen=True)
class Pair:
    """Two rows to be put against each other, and the question both answer."""

    new: Row
    baseline: Row
    setting: str


def contrast(pairs: Sequence[Pair], details: Details) -> list[Contrast]:
    """Put new rows against baseline rows; tests of accuracy are corrected for their number.

    Args:
        pairs: what to compare.
        details: gives a record's sidecar by its key.
    """
    apart = [finding.accuracies_apart(pair.new, pair.baseline) for pair in pairs]
    uncorrected = [found.p for found in apart if found and found.p is not None]
    corrected = iter(holm(uncorrected))
    made = []
    for pair, found in zip(pairs, apart, strict=True):
        p = next(corrected) if found and found.p is not None else None
        made.append(_contrast(pair, found, p, max(1, len(uncorrected)), details))
    return made


def _contrast(
    pair: Pair, apart: Difference | None, p: float | None, comparisons: int, details: Details
) -> Contrast:
    new, baseline = pair.new, pair.baseline
    accuracy = finding.of_accuracy(new, baseline, apart, p, comparisons)
    others = [finding.of_metric(metric, new, baseline) for metric in COMPARED]
    return Contrast(
        new,
        baseline,
        tuple(
            found
            for found in (accuracy, *others)
            if new.value(found.metric) is not None or baseline.value(found.metric) is not None
        ),
        tuple(finding.of_tasks(new, baseline)),
        tuple(unlike(new, baseline, details)),
        (_spread(new), _spread(baseline)),
        tuple(_remarks(new, baseline, apart)),
        pair.setting,
    )


def _spread(row: Row) -> Spread:
    spec = row.trained()
    tries = spec.training.tries if spec and spec.training else ()
    tried = [t.validation_accuracy for t in tries if t.validation_accuracy is not None]
    return Spread(row.label, row.accuracy(), mean_and_range(tried))


def _remarks(new: Row, baseline: Row, apart: Difference | None) -> list[str]:
    rows = (new, baseline)
    said = [f"{row.label}, {line}" for row in rows for line in row.failures()]
    said += [f"{row.label}: {note}" for row in rows for note in row.notes()]
    said += [f"{row.label}: {doubt}" for row in rows for doubt in row.doubts_about_its_rate()]
    if apart is not None:
        said += _pairs_needed(apart, finding.differences(new, baseline))
    return said


def _pairs_needed(apart: Difference, differences: list[float]) -> list[str]:
    """Say how many seeds would show a difference as large as the one seen."""
    if apart.p is None or not apart.centre:
        return []
    needed = pairs_to_show(apart.centre, stdev(differences))
    many = f"more than {MOST_PAIRS}" if needed is None else str(max(needed, verdict.fewest_pairs()))
    said = (
        f"were the true difference in accuracy the one seen, {many} seeds would find it in four "
        f"comparisons of five; {apart.pairs} were compared"
    )
    return [said]
