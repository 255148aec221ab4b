"""Records put side by side: one row a method, with ratios that may be taken."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from harness.metrics import METRICS
from harness.record import Status, TrialRecord
from harness.spec import TrialSpec, Workload
from harness.store import latest
from reports.statistics import (
    Ratio,
    Summary,
    mean_and_range,
    median_and_quartiles,
    time_ratio,
)

REFERENCE = "full"
BASELINE = "bsr"
# Gives a record's sidecar by its key; empty where there is none.
Details = Callable[[str], dict[str, Any]]


@dataclass(frozen=True)
class Row:
    """All trials that differ only in seed or in what was measured, on one machine.

    Attributes:
        label: how reports call it; unique within a comparison.
        records: the newest record of each trial, results only.
    """

    label: str
    records: tuple[TrialRecord, ...]

    @property
    def spec(self) -> TrialSpec:
        """Return a spec whose method, options and workload are this row's."""
        return self.records[0].spec

    def value(self, metric: str) -> float | None:
        """Return a metric's value: the median of samples, the mean over seeds."""
        numbers = [n for record in self.records for n in _numbers(record, metric)]
        if not numbers:
            return None
        return median(numbers) if METRICS[metric].samples else sum(numbers) / len(numbers)

    def accuracy(self) -> Summary | None:
        """Return mean and range of the test accuracy over seeds."""
        return mean_and_range([n for r in self.records for n in _numbers(r, "accuracy_top1")])

    def curves(self) -> list[tuple[list[float], list[float]]]:
        """Return seconds and validation accuracies of each seed's curve."""
        read = [
            (_numbers(r, "curve_seconds"), _numbers(r, "curve_accuracies")) for r in self.records
        ]
        return [curve for curve in read if curve[0]]

    def step_seconds(self) -> Summary | None:
        """Return median and quartiles of the step time."""
        return median_and_quartiles([n for r in self.records for n in _numbers(r, "step_seconds")])

    def tokens(self) -> list[int]:
        """Return the tokens after each block, as observed."""
        return [int(n) for r in self.records for n in _numbers(r, "tokens_after_block")]

    def round_group(self) -> str | None:
        """Return the round group the row was timed in."""
        groups = [r.environment.get("round_group") for r in self.records if r.spec.profile]
        return groups[0] if groups else None

    def profiled(self) -> TrialRecord | None:
        """Return the record of the row's profile, if there is one."""
        return next((r for r in self.records if r.spec.profile), None)

    def timed(self) -> TrialRecord | None:
        """Return the record whose steps were timed, if there is one."""
        found = self.profiled()
        return found if found and found.measurements.get("step_seconds") else None

    def failures(self) -> list[str]:
        """Return how trials ended that did not complete."""
        return [
            f"seed {record.spec.seed}: {record.outcome.status} ({record.outcome.reason})"
            for record in self.records
            if record.outcome.status is not Status.COMPLETED
        ]

    def notes(self) -> list[str]:
        """Return what a reader of the numbers must know."""
        return list(dict.fromkeys(note for record in self.records for note in record.notes))

    def trained(self) -> TrialSpec | None:
        """Return the spec of a training trial, if there is one."""
        return next((r.spec for r in self.records if r.spec.training), None)


@dataclass(frozen=True)
class Comparison:
    """Rows that were given the same workload, and what they are compared with.

    Attributes:
        rows: in the order of their records, but the reference first.
        reference: the workload whose axes go without saying in the rows' labels.
        details: gives the sidecars of their records.
    """

    rows: tuple[Row, ...]
    reference: Workload
    details: Details

    def detail(self, row: Row) -> dict[str, Any]:
        """Return the sidecar of a row's profile; empty where there is none."""
        record = row.profiled()
        return self.details(record.key) if record else {}

    def find(self, method: str) -> Row | None:
        """Return the plain row of a method: no options, and the axes of the reference row."""
        plain = [row for row in self.rows if row.label == method]
        return plain[0] if plain else None

    def ratio(self, row: Row, metric: str, to: str = REFERENCE) -> float | None:
        """Return a row's value relative to another row's; times only within one round group."""
        if METRICS[metric].unit == "s":
            found = self.time_ratio(row, metric, to)
            return found.centre if found else None
        other = self.find(to)
        if other is None:
            return None
        own, theirs = row.value(metric), other.value(metric)
        return None if own is None or not theirs else own / theirs

    def time_ratio(
        self, row: Row, metric: str = "step_seconds", to: str = REFERENCE
    ) -> Ratio | None:
        """Return the ratio of times, round by round, with its interval; of itself it is 1."""
        other = self.find(to)
        if other is None or not _timed_together(row, other):
            return None
        ours, theirs = row.timed(), other.timed()
        if ours is None or theirs is None or ours.spec.profile is None:
            return None
        if row is other:
            rounds = len(_numbers(ours, metric)) // ours.spec.profile.steps
            return Ratio(1.0, 1.0, 1.0, rounds, least=1.0, largest=1.0)
        return time_ratio(_numbers(ours, metric), _numbers(theirs, metric), ours.spec.profile.steps)

    def title(self) -> str:
        """Return the workload in a line."""
        workload = self.rows[0].spec.workload
        size = f" at {workload.image_size} px" if workload.image_size else ""
        parts = (
            *(f"{workload.model}{size}", workload.data, f"batch {workload.batch}"),
            *(self.axes(), workload.optimizer, workload.device),
        )
        return ", ".join(parts)

    def axes(self) -> str:
        """Return how the steps of rows are done whose labels say nothing else."""
        workload = self.reference
        others = [word for word in workload.axes() if word != workload.precision]
        return ", ".join([workload.precision, *others])

    def pareto_front(self, cost: str = "peak_counted_bytes") -> list[Row]:
        """Return the rows that no other row beats in both accuracy and cost, cheapest first."""
        points = [
            (row.value(cost), -accuracy, row)
            for row in self.rows
            if (accuracy := row.value("accuracy_top1")) is not None and row.value(cost) is not None
        ]
        front: list[Row] = []
        best = 0.0
        for _, negative, row in sorted(points, key=lambda point: point[:2]):
            if not front or negative < best:
                front.append(row)
                best = negative
        return front

    def seeds(self) -> int:
        """Return the most seeds any row was trained with."""
        summaries = [row.accuracy() for row in self.rows]
        return max((summary.count for summary in summaries if summary), default=0)

    def machines(self) -> list[dict[str, Any]]:
        """Return each machine the records come from, once."""
        found = {
            r.environment["machine_id"]: r.environment for row in self.rows for r in row.records
        }
        return list(found.values())

    def differences(self) -> list[str]:
        """Return every setting in which the rows' specs differ, apart from the methods."""
        return _differences([record.spec for row in self.rows for record in row.records])


def compare(records: Iterable[TrialRecord], details: Details) -> list[Comparison]:
    """Put the newest record of every trial into rows, and rows of one question together.

    Workloads ask one question if they differ at most in their axes. Tries of learning rates are
    left out.
    """
    questions: dict[str, list[TrialRecord]] = defaultdict(list)
    for record in latest(records):
        if record.spec.training is None or record.spec.training.evaluate == "test":
            questions[record.spec.workload.question()].append(record)
    return [_comparison(found, details) for found in questions.values()]


def _comparison(records: list[TrialRecord], details: Details) -> Comparison:
    grouped: dict[tuple[str, str], list[TrialRecord]] = defaultdict(list)
    for record in records:
        grouped[record.spec.row_id(), record.environment["machine_id"]].append(record)
    reference = _reference([members[0].spec for members in grouped.values()])
    labels = _labels(list(grouped.values()), reference)
    rows = [
        Row(label, tuple(members)) for label, members in zip(labels, grouped.values(), strict=True)
    ]
    rows.sort(key=lambda row: row.label != REFERENCE)  # it comes first; the others stay in order
    return Comparison(tuple(rows), reference, details)


def _reference(specs: list[TrialSpec]) -> Workload:
    """Return the workload of the plain reference row; without one, of the first row.

    Of several rows of the reference method the one with the fewest axes set counts, whatever the
    order in which they were measured.
    """
    named = [spec for spec in specs if spec.method == REFERENCE and not spec.options]
    return min(named or specs[:1], key=lambda spec: len(spec.workload.axes())).workload


def _labels(groups: list[list[TrialRecord]], reference: Workload) -> list[str]:
    """Return each row's label; where two are equal, what tells them apart is added."""
    plain = [group[0].spec.label(beside=reference) for group in groups]
    labels = []
    for label, group in zip(plain, groups, strict=True):
        if plain.count(label) == 1:
            labels.append(label)
            continue
        labels.append(f"{label} [machine {group[0].environment['machine_id']}]")
    return labels


def _numbers(record: TrialRecord, metric: str) -> list[float]:
    value = record.measurements.get(metric)
    if value is None:
        return []
    return [float(n) for n in value] if isinstance(value, list) else [float(value)]


def _timed_together(one: Row, other: Row) -> bool:
    return one.round_group() is not None and one.round_group() == other.round_group()


def _differences(specs: list[TrialSpec]) -> list[str]:
    values: dict[str, set[str]] = defaultdict(set)
    for spec in specs:
        for name, value in spec.workload.model_dump().items():
            values[name].add(str(value))
        if spec.training:
            values["learning_rate"].add(f"{spec.training.learning_rate:g}")
            values["training steps"].add(str(spec.training.steps))
    return [
        f"{name}: {', '.join(sorted(found))}" for name, found in values.items() if len(found) > 1
    ]
