"""The rows of a search with their numbers, which come from its records."""

from dataclasses import dataclass, replace
from pathlib import Path

from harness.found import Found, FoundRow
from harness.record import TrialRecord
from harness.store import Store
from reports.row import Row, ratio_of_times
from reports.statistics import Ratio, Summary, mean_and_range


@dataclass(frozen=True)
class Measured:
    """A row of a search with its numbers.

    Attributes:
        found: the row.
        profile: its measurements.
        ratio: of its step's time to the published setting's; ``None`` for that one itself.
        accuracies: on the validation split, a seed each.
        on_front: of the rows that were trained with every seed, none is as good or better in
            memory, time and mean accuracy, and better in one.
    """

    found: FoundRow
    profile: Row | None
    ratio: Ratio | None
    accuracies: tuple[float, ...]
    on_front: bool = False

    def counted_bytes(self) -> float | None:
        """Return the counted peak."""
        return self.profile.value("peak_counted_bytes") if self.profile else None

    def accuracy(self) -> Summary | None:
        """Return mean and range over seeds."""
        return mean_and_range(self.accuracies)

    def time(self) -> float | None:
        """Return the time of a step over the published setting's."""
        return self.ratio.centre if self.ratio else None

    def is_complete(self) -> bool:
        """Return whether memory, time and accuracy are all known."""
        return None not in {self.counted_bytes(), self.time()} and bool(self.accuracies)

    def point(self) -> tuple[float, float, float]:
        """Return memory, time and the negative accuracy: smaller is better."""
        accuracy = self.accuracy()
        return self.counted_bytes() or 0, self.time() or 0, -(accuracy.centre if accuracy else 0)

    def beats(self, published: "Measured") -> bool:
        """Return whether it needs less memory and time, at no lower mean accuracy.

        Less time is said only where the interval of the ratio ends below 1.
        """
        if not (self.is_complete() and published.is_complete()):
            return False
        high = self.ratio.high if self.ratio else None
        memory, _, accuracy = self.point()
        least, _, reached = published.point()
        return memory < least and high is not None and high < 1 and accuracy <= reached


def measured(found: Found, folder: Path) -> list[Measured]:
    """Return the rows of a search with what their records say; the published setting is first."""
    store = Store(folder)
    profiles = [_profile(row, store) for row in found.rows]
    rows = [
        Measured(
            found=row,
            profile=profile,
            ratio=_ratio(profile, profiles[0]),
            accuracies=_accuracies(row, store),
        )
        for row, profile in zip(found.rows, profiles, strict=True)
    ]
    complete = [row for row in rows if row.is_complete()]
    return [replace(row, on_front=_is_on_front(row, complete)) for row in rows]


def _profile(row: FoundRow, store: Store) -> Row | None:
    record = store.record(row.profile)
    return Row(record.spec.row_label(), (record,)) if record else None


def _ratio(row: Row | None, published: Row | None) -> Ratio | None:
    return ratio_of_times("step_seconds", row, published) if row and published else None


def _accuracies(row: FoundRow, store: Store) -> tuple[float, ...]:
    records: list[TrialRecord | None] = [store.record(key) for key in row.trainings]
    found = [r.measurements.get("validation_accuracy_top1") if r else None for r in records]
    return tuple(value for value in found if isinstance(value, float))


def _is_on_front(row: Measured, complete: list[Measured]) -> bool:
    if not row.is_complete():
        return False
    own = row.point()
    return not any(
        other != own and all(a <= b for a, b in zip(other, own, strict=True))
        for other in (one.point() for one in complete)
    )
