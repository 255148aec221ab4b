"""Comparisons made from records: one row per method, and the ratios that are valid."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bsrbench.harness.records.distinct_specs import DistinctSpecs
from bsrbench.harness.records.ratio_interval import Ratio
from bsrbench.harness.records.sidecar import NO_SIDECAR, Sidecar
from bsrbench.harness.records.store import latest
from bsrbench.harness.records.trial_environment import Environment
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.row_name import RowName
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.reports.compare import seed_pairing
from bsrbench.reports.compare.anchors import BASELINE, REFERENCE, reference_workload
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.deciding_settings import mixed_settings
from bsrbench.reports.compare.repeated_timings import (
    TIMED_BY,
    RepeatedTimes,
    has_rounds,
    timed_again,
)
from bsrbench.reports.compare.row_records import rows_among
from bsrbench.reports.compare.time_ratios import centre_of_times, in_one_group, ratio_of_times

# Returns the sidecar of the record with a key; an empty sidecar if there is none.
Details = Callable[[str], Sidecar]


@dataclass(frozen=True)
class Comparison:
    """Rows that answer the same question.

    Attributes:
        rows: the reference first, then in the order of their records.
        reference: the workload of the reference row; labels omit the axes that it has too.
        details: returns the sidecars of the rows' records.
        same_seeds: whether all tested rows were tested with the same seeds. If not, no accuracy
            is marked as the best, because means over different seeds are not comparable.
    """

    rows: tuple[ComparisonRow, ...]
    reference: Workload
    details: Details
    same_seeds: bool = True

    def question(self) -> tuple[str, str | None]:
        """Return the question of all rows: the workload without its axes, and the training."""
        trained = self.training()
        return self.reference.question(), trained.question() if trained else None

    def training(self) -> Training | None:
        """Return how rows were trained, without the learning rate; ``None`` if none was trained."""
        return next((spec.training for row in self.rows if (spec := row.trained())), None)

    def detail(self, row: ComparisonRow) -> Sidecar:
        """Return the sidecar of a row's profile; an empty sidecar if there is none."""
        record = row.profiled()
        return self.details(record.key) if record else NO_SIDECAR

    def find(self, method: str) -> ComparisonRow | None:
        """Return the plain row of a method: no options, and the axes of the reference row.

        Return ``None`` if there is none, or more than one (for example from two machines).
        """
        if method not in self._plain:
            name = RowName.of(method, {}, self.reference.axis_values()) if self.rows else None
            matches = [row for row in self.rows if row.name == name]
            self._plain[method] = matches[0] if len(matches) == 1 else None
        return self._plain[method]

    @cached_property
    def _plain(self) -> dict[str, ComparisonRow | None]:
        """Return the cache of ``find``, which every ratio calls."""
        return {}

    def place(self, method: str) -> int | None:
        """Return the index of the plain row of a method among the rows."""
        plain_row = self.find(method)
        return next((place for place, row in enumerate(self.rows) if row is plain_row), None)

    def leads(self, row: ComparisonRow) -> bool:
        """Return whether a row is the reference or the baseline."""
        return row is self.find(REFERENCE) or row is self.find(BASELINE)

    def ratio(self, row: ComparisonRow, metric: str, to: str = REFERENCE) -> float | None:
        """Return a row's value divided by the value of the plain row of method ``to``.

        Times are compared only within one round group.
        """
        base = self.find(to)
        if base is None:
            return None
        if has_rounds(metric):
            return centre_of_times(metric, row, base)
        own, theirs = row.value(metric), base.value(metric)
        return None if own is None or not theirs else own / theirs

    def time_ratio(
        self, row: ComparisonRow, metric: str = "step_seconds", to: str = REFERENCE
    ) -> Ratio | None:
        """Return the ratio of two rows' times with its interval, from the process generations."""
        key = (row.identity(), metric, to)
        if key not in self._time_ratios:
            base = self.find(to)
            ratio = ratio_of_times(metric, row, base) if base else None
            self._time_ratios[key] = ratio
        return self._time_ratios[key]

    @cached_property
    def _time_ratios(self) -> dict[tuple[Hashable, str, str], Ratio | None]:
        """Return the cache of ``time_ratio``, which every writer calls."""
        return {}

    def ranked(self, metric: str, rows: Sequence[ComparisonRow]) -> list[float | None]:
        """Return the number by which each row is ranked in a metric.

        The number is the row's value. Times from several round groups cannot be compared, so the
        ratios to the reference replace them. A row without such a ratio has ``None``.
        """
        values = [row.value_of(metric) for row in rows]
        seconds = TIMED_BY.get(metric)
        if seconds is None or in_one_group(rows):
            return values
        row_values = zip(rows, values, strict=True)
        ratios = [
            self.ratio(row, seconds) if value is not None else None for row, value in row_values
        ]
        return ratios if seconds == metric else [1 / ratio if ratio else None for ratio in ratios]

    def title(self) -> str:
        """Return the workload as one line of text."""
        workload = self.rows[0].spec.workload
        size = f" at {workload.image_size} px" if workload.image_size else ""
        trained = self.training()
        parts = (
            *(f"{workload.model}{size}", workload.data_name(), f"batch {workload.batch}"),
            *(self.axes(), workload.optimizer_in_words(), workload.device),
            *([f"{trained.steps} steps"] if trained else []),
        )
        return ", ".join(parts)

    def axes(self) -> str:
        """Return the axes of the reference workload as text, precision first, no optimizer."""
        workload = self.reference
        shown = {workload.precision, workload.optimizer_in_words()}
        others = [word for word in workload.axes() if word not in shown]
        return ", ".join([workload.precision, *others])

    def pareto_front(self, cost: str = "peak_counted_bytes") -> list[ComparisonRow]:
        """Return the Pareto front of accuracy and cost, cheapest row first.

        It is empty if rows were tested with different seeds.
        """
        if not self.same_seeds:
            return []
        if cost not in self._fronts:
            self._fronts[cost] = self._front(cost)
        return self._fronts[cost]

    @cached_property
    def _fronts(self) -> dict[str, list[ComparisonRow]]:
        """Return the cache of ``pareto_front``, which every writer calls."""
        return {}

    def _front(self, cost: str) -> list[ComparisonRow]:
        tested = [row for row in self.rows if row.value_of("accuracy_top1") is not None]
        points = [
            (spent, -(row.value_of("accuracy_top1") or 0.0), row)
            for row, spent in zip(tested, self.ranked(cost, tested), strict=True)
            if spent is not None
        ]
        front: list[ComparisonRow] = []
        best = 0.0
        for _, negative, row in sorted(points, key=lambda point: point[:2]):
            if not front or negative < best:
                front.append(row)
                best = negative
        return front

    def seeds(self) -> int:
        """Return the largest number of tested seeds of any row."""
        return self._seeds

    @cached_property
    def _seeds(self) -> int:
        return max((len(row.accuracies()) for row in self.rows), default=0)

    def machines(self) -> list[Environment]:
        """Return the machines on which the records were made, without duplicates."""
        return list({row.machine(): row.records[-1].environment for row in self.rows}.values())

    def differences(self) -> list[str]:
        """Return every setting in which the rows differ, except the method."""
        records = [record for row in self.rows for record in row.records]
        return [*_differences([record.spec for record in records]), *mixed_settings(records)]


def compare(records: Iterable[TrialRecord], details: Details) -> list[Comparison]:
    """Make rows of the newest record of every trial, and one comparison per question.

    Two rows belong to one question if their workloads differ only in axes and their trainings only
    in the learning rate. A row that was only profiled belongs to every training of its workload.
    Trials of a learning-rate search are left out.
    """
    every = list(records)
    again = timed_again(every)
    by_question: dict[str, dict[str | None, list[TrialRecord]]] = defaultdict(dict)
    questions: dict[int, str] = {}  # cached by object id: many records share a few objects

    def question(part: Workload | Training) -> str:
        if id(part) not in questions:
            questions[id(part)] = part.question()
        return questions[id(part)]

    newest = latest(every)
    for record in sorted(newest, key=_place):
        training = record.spec.training
        if training is None or training.evaluate == "test":
            of_workload = by_question[question(record.spec.workload)]
            of_workload.setdefault(question(training) if training else None, []).append(record)
    return [
        _comparison(group, details, again)
        for of_workload in by_question.values()
        for group in _with_profiles(of_workload)
    ]


def _place(record: TrialRecord) -> int:
    """Return a trial's place in its suite; trials without a place come first, in order."""
    place = record.circumstances.suite_place
    return -1 if place is None else place


def _with_profiles(of_workload: dict[str | None, list[TrialRecord]]) -> list[list[TrialRecord]]:
    """Return one list of records per recipe, each with all profiles first.

    If nothing was trained, return one list with only the profiles.
    """
    profiles = of_workload.pop(None, [])
    return [[*profiles, *trained] for trained in of_workload.values()] or [profiles]


def _comparison(
    records: list[TrialRecord], details: Details, again: Mapping[str, tuple[RepeatedTimes, ...]]
) -> Comparison:
    grouped: dict[Hashable, list[TrialRecord]] = defaultdict(list)
    number = DistinctSpecs()
    for record in records:
        grouped[number.of_row(record.spec), record.environment.machine_id].append(record)
    groups = [group for members in grouped.values() for group in rows_among(members)]
    reference = reference_workload([members[0].spec for members in groups])
    rows = _told_apart(
        [
            ComparisonRow(
                members[0].spec.row_label(beside=reference),
                tuple(members),
                tuple(turns for r in members for turns in again.get(r.key, ())),
            )
            for members in groups
        ]
    )
    first = RowName.of(REFERENCE, {}, reference.axis_values())
    rows.sort(key=lambda row: row.name != first)  # the other rows keep their order
    return Comparison(tuple(rows), reference, details, seed_pairing.are_alike(rows))


def _told_apart(rows: list[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows; rows with the same name get their machine or learning rate in the label."""
    places: dict[RowName, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        places[row.name].append(place)
    labelled = list(rows)
    for same in (alike for alike in places.values() if len(alike) > 1):
        facts = [rows[place].apart() for place in same]
        differing = [kind for kind in facts[0] if len({fact[kind] for fact in facts}) > 1]
        for place, fact in zip(same, facts, strict=True):
            printed = replace(rows[place].printed, apart={kind: fact[kind] for kind in differing})
            labelled[place] = replace(rows[place], printed=printed)
    return labelled


def _differences(specs: list[TrialSpec]) -> list[str]:
    values: dict[str, set[str]] = defaultdict(set)
    for spec in specs:
        for name, value in spec.workload.model_dump().items():
            values[name].add(str(value))
        if spec.training:
            values["learning_rate"].add(f"{spec.training.learning_rate:g}")
            values["training steps"].add(str(spec.training.steps))
    return [
        f"{name}: {', '.join(sorted(texts))}" for name, texts in values.items() if len(texts) > 1
    ]
