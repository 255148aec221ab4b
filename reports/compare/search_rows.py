"""The rows of a search, with the numbers from its records."""

from dataclasses import dataclass, replace
from pathlib import Path

from bsrbench.harness.records.ratio_interval import CONFIDENCE, Ratio
from bsrbench.harness.records.store import Store
from bsrbench.harness.spec.search_result import SearchResult, SearchResultRow
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.record_numbers import numbers
from bsrbench.reports.compare.repeated_timings import timed_again
from bsrbench.reports.compare.statistics import Summary, corrected_ps, mean_and_range
from bsrbench.reports.compare.time_ratios import ratio_of_times


@dataclass(frozen=True)
class MeasuredRow:
    """A row of a search with its numbers.

    Attributes:
        found: the row, as the search stored it.
        profile: the measurements of the row.
        ratio: its step time divided by that of the published setting; ``None`` for the published
            setting itself.
        accuracies: accuracies on the validation split, one per seed.
        lost: seeds whose training did not complete. A row with such a seed is not compared with
            other rows, because their accuracies are over other seeds.
        p: p value of the ratio, corrected for the number of rows; ``None`` without an interval.
        on_front: whether the row is on the Pareto front of memory, time and mean accuracy, among
            the rows trained with every seed.
    """

    found: SearchResultRow
    profile: ComparisonRow | None
    ratio: Ratio | None
    accuracies: tuple[float, ...]
    lost: tuple[int, ...] = ()
    p: float | None = None
    on_front: bool = False

    def counted_bytes(self) -> float | None:
        """Return the counted peak in bytes."""
        return self.profile.value("peak_counted_bytes") if self.profile else None

    def accuracy(self) -> Summary | None:
        """Return mean and range of the validation accuracy over seeds."""
        return mean_and_range(self.accuracies)

    def time(self) -> float | None:
        """Return the step time divided by that of the published setting."""
        return self.ratio.centre if self.ratio else None

    def is_complete(self) -> bool:
        """Return whether memory, time and the accuracy of every seed are known."""
        known = None not in {self.counted_bytes(), self.time()}
        return known and bool(self.accuracies) and not self.lost

    def point(self) -> tuple[float, float, float]:
        """Return memory, time and the negative accuracy: smaller is better."""
        accuracy = self.accuracy()
        return self.counted_bytes() or 0, self.time() or 0, -(accuracy.centre if accuracy else 0)

    def beats(self, published: "MeasuredRow") -> bool:
        """Return whether the row needs less memory and less time, at no lower mean accuracy.

        Time counts as less only if the test of the ratio passes, with Holm's correction for the
        number of rows.
        """
        if not (self.is_complete() and published.is_complete()):
            return False
        memory, time, accuracy = self.point()
        least, _, reached = published.point()
        faster = time < 1 and self.p is not None and self.p <= 1 - CONFIDENCE
        return memory < least and faster and accuracy <= reached


def measured(result: SearchResult, folder: Path) -> list[MeasuredRow]:
    """Return the rows of a search with numbers from their records, published setting first."""
    store = Store(folder)
    records = [store.record(row.profile) for row in result.rows]
    again = timed_again(record for record in records if record)
    profiles = [
        ComparisonRow(record.spec.row_label(), (record,), again.get(record.key, ()))
        if record
        else None
        for record in records
    ]
    by_seed = [_by_seed(row, store) for row in result.rows]
    ratios = [_ratio(profile, profiles[0]) for profile in profiles]
    ps = [None, *corrected_ps(ratios[1:])]  # the published setting is not compared with itself
    rows = [
        MeasuredRow(
            found=row,
            profile=profile,
            ratio=ratio,
            accuracies=tuple(read.values()),
            lost=tuple(seed for seed in result.seeds if row.trainings and seed not in read),
            p=p,
        )
        for row, profile, read, ratio, p in zip(
            result.rows, profiles, by_seed, ratios, ps, strict=True
        )
    ]
    complete = [row for row in rows if row.is_complete()]
    return [replace(row, on_front=_is_on_front(row, complete)) for row in rows]


def _ratio(row: ComparisonRow | None, published: ComparisonRow | None) -> Ratio | None:
    return ratio_of_times("step_seconds", row, published) if row and published else None


def _by_seed(row: SearchResultRow, store: Store) -> dict[int, float]:
    """Return the validation accuracy of each seed whose training completed."""
    records = [record for key in row.trainings if (record := store.record(key))]
    read = {record.spec.seed: numbers(record, "validation_accuracy_top1") for record in records}
    return {seed: values[0] for seed, values in read.items() if values}


def _is_on_front(row: MeasuredRow, complete: list[MeasuredRow]) -> bool:
    if not row.is_complete():
        return False
    own = row.point()
    return not any(
        point != own and all(a <= b for a, b in zip(point, own, strict=True))
        for point in (competitor.point() for competitor in complete)
    )
