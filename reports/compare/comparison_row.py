"""A row of a comparison: all trials that differ only in seed or in what was measured."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.remarks import Note
from bsrbench.harness.records.trial_record import Status, TrialRecord
from bsrbench.harness.spec.row_name import LEARNING_RATE, MACHINE, Apart, RowLabel, RowName
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.reports.compare.record_numbers import as_numbers, numbers
from bsrbench.reports.compare.repeated_timings import RepeatedTimes, turns_of
from bsrbench.reports.compare.statistics import Summary, mean, mean_and_range, median_and_quartiles

NOT_TUNED = "its learning rate was not tuned"


@dataclass(frozen=True)
class ComparisonRow:
    """All trials that differ only in seed or in what was measured, on one machine.

    Attributes:
        printed: its name in reports, unique in a comparison.
        records: the newest record of each trial, results only; of several profiles the one with
            the most measurements.
        again: the times of its trial when it was timed again, in turns with rows added later.
    """

    printed: RowLabel
    records: tuple[TrialRecord, ...]
    again: tuple[RepeatedTimes, ...] = ()

    @cached_property
    def label(self) -> str:
        """Return its name in reports: text for readers, never to be compared."""
        return str(self.printed)

    @cached_property
    def name(self) -> RowName:
        """Return the row's name in every comparison: method, options and axes."""
        return self.spec.row_name()

    def apart(self) -> Apart:
        """Return what can distinguish the row from others of the same name."""
        spec = self.trained()
        return {MACHINE: self.machine(), LEARNING_RATE: spec.rates() if spec else None}

    def identity(self) -> Hashable:
        """Return an identifier that is unique in a comparison."""
        return (self.name, *self.apart().values())

    @property
    def spec(self) -> TrialSpec:
        """Return a spec whose method, options and workload are this row's."""
        return self.records[0].spec

    def value(self, metric: str) -> float | None:
        """Return a metric's value: the median of samples, the mean over seeds."""
        return self._values.get(metric)

    def value_of(self, metric: str) -> float | None:
        """Return the same value without computing other metrics: faster for one or two metrics."""
        found = self._numbers(metric)
        return _centre(metric, found) if found else None

    def _numbers(self, metric: str) -> list[float]:
        if metric not in self._asked:
            self._asked[metric] = [n for record in self.records for n in numbers(record, metric)]
        return self._asked[metric]

    @cached_property
    def _asked(self) -> dict[str, list[float]]:
        """Samples asked for before: every writer asks for the same few again."""
        return {}

    @cached_property
    def _values(self) -> dict[str, float]:
        """All values at once: a report of thousands of rows asks for each several times."""
        return {metric: _centre(metric, found) for metric, found in self.samples().items()}

    def samples(self) -> dict[str, list[float]]:
        """Return all samples of each metric that has any, in the order of the records."""
        return self._samples

    @cached_property
    def _samples(self) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for record in self.records:
            for metric, value in record.measurements.items():
                if value is None:
                    continue
                if type(value) is list:
                    found[metric] = [*found.get(metric, []), *value]
                elif metric in found:
                    found[metric].append(value)  # type: ignore[arg-type]  # not a list
                else:
                    found[metric] = [value]  # type: ignore[list-item]
        return {metric: values for metric, values in found.items() if values}

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return a metric's value for each seed that was trained."""
        return {
            record.spec.seed: found[0]
            for record in self.records
            if record.spec.training and (found := numbers(record, metric))
        }

    @cached_property
    def tested_seeds(self) -> tuple[int, ...]:
        """The seeds whose training was tested, in order, without failed ones."""
        return tuple(sorted(self.by_seed("accuracy_top1")))

    def accuracy(self) -> Summary | None:
        """Return mean and range of the test accuracy over seeds."""
        return self.spread("accuracy_top1")

    def accuracies(self) -> list[float]:
        """Return the test accuracy of each seed."""
        return self._numbers("accuracy_top1")

    def by_task(self) -> dict[str, dict[int, float]]:
        """Return the test accuracy by task and seed; empty if there is only one task."""
        if self.spec.workload.multitask is None:
            return {}
        read = {
            record.spec.seed: numbers(record, "accuracy_by_task")
            for record in self.records
            if numbers(record, "accuracy_top1")
        }
        return {
            task: {seed: found[place] for seed, found in read.items() if place < len(found)}
            for place, task in enumerate(self.spec.workload.tasks())
        }

    def curves(self) -> list[tuple[list[float], list[float]]]:
        """Return seconds and validation accuracies of each seed's curve."""
        read = [(numbers(r, "curve_seconds"), numbers(r, "curve_accuracies")) for r in self.records]
        return [curve for curve in read if curve[0]]

    def step_seconds(self) -> Summary | None:
        """Return median and quartiles of the step time."""
        return self.spread("step_seconds")

    def spread(self, metric: str) -> Summary | None:
        """Return median and quartiles of samples; of single values mean and range over seeds."""
        if metric not in self._spreads:
            summary = median_and_quartiles if metric in SAMPLED else mean_and_range
            self._spreads[metric] = summary(self._numbers(metric))
        return self._spreads[metric]

    @cached_property
    def _spreads(self) -> dict[str, Summary | None]:
        """Spreads asked for before: every writer asks for them again."""
        return {}

    def by_block(self, metric: str) -> list[int]:
        """Return a whole number for each block, as observed."""
        return [n for r in self.records for n in map(int, numbers(r, metric))]

    def is_superseded(self, metric: str) -> bool:
        """Tell whether a metric stands in for another metric, of which the row has a value."""
        return self.value(METRICS[metric].stands_in_for) is not None

    def round_group(self) -> str | None:
        """Return the round group the row was timed in."""
        return self._round_group

    @cached_property
    def _round_group(self) -> str | None:
        record = self.profiled()
        return record.circumstances.round_group if record else None

    def profiled(self) -> TrialRecord | None:
        """Return the record of the row's profile, if there is one."""
        return next((r for r in self.records if r.spec.profile), None)

    def timed(self) -> TrialRecord | None:
        """Return the record whose steps were timed, if there is one."""
        found = self.profiled()
        return found if found and found.measurements.get("step_seconds") else None

    def rounds(self) -> int:
        """Return the number of timing visits; 0 if nothing was timed."""
        record = self.timed()
        if record is None or record.spec.profile is None:
            return 0
        return math.ceil(len(numbers(record, "step_seconds")) / record.spec.profile.steps)

    def machine(self) -> str:
        """Return the id of the machine all its records come from."""
        return self.records[0].environment.machine_id

    def why_missing(self, metric: str) -> str:
        """Return why a metric has no value, as stated by the record that should have it."""
        fitting = self.profiled() or self.records[0]
        if METRICS[metric].is_by_seed():
            fitting = next((r for r in self.records if r.spec.training), fitting)
        absence = fitting.missing.get(metric)
        return absence.in_words() if absence else "not measured"

    def turns(self, other: "ComparisonRow | None" = None) -> dict[str, RepeatedTimes]:
        """Return the row's times in each round group, by the name of the group.

        Args:
            other: a row whose record may hold times of this one; the two may come from different
                results folders.
        """
        record = self.timed()
        if record is None:
            return {}
        beside = other.timed() if other else None
        times = beside.beside.get(record.key) if beside else None
        found = (
            *((turns_of(beside, times),) if beside and times else ()),
            *self.again,
            turns_of(record, record.measurements),
        )
        return {turns.group: turns for turns in found if turns}

    def visits(self, metric: str, turns: RepeatedTimes | None = None) -> list[float]:
        """Return the median of each timing visit; empty if the metric was not timed.

        A visit's samples share a process, so they are one observation. It gives
        ``spec.profile.steps`` samples of the step and, of other metrics, as many as any other
        visit; where they cannot be shared out evenly there are none.

        Args:
            metric: what was timed.
            turns: the round group that is meant; the row's own unless said.
        """
        asked = metric, turns.group if turns else None
        if asked not in self._visits:
            self._visits[asked] = self._visits_of(metric, turns)
        return self._visits[asked]

    @cached_property
    def _visits(self) -> dict[tuple[str, str | None], list[float]]:
        """Visits asked for before: every ratio asks for them again."""
        return {}

    def _visits_of(self, metric: str, turns: RepeatedTimes | None) -> list[float]:
        record = self.timed()
        if record is None or record.spec.profile is None:
            return []
        times = turns.times if turns else record.measurements
        found, steps = as_numbers(times.get(metric)), record.spec.profile.steps
        rounds = math.ceil(len(as_numbers(times.get("step_seconds"))) / steps)
        size = steps if metric == "step_seconds" else len(found) // max(1, rounds)
        if not size or math.ceil(len(found) / size) != rounds:
            return []
        return [median(found[start : start + size]) for start in range(0, len(found), size)]

    def failures(self) -> list[str]:
        """Return the outcome of each trial that did not complete."""
        return [
            f"seed {record.spec.seed}: {record.outcome.status} ({record.outcome.reason})"
            for record in self.records
            if record.outcome.status is not Status.COMPLETED
        ]

    def statuses(self) -> list[str]:
        """Return the outcomes of the trials, without duplicates."""
        return list(dict.fromkeys(str(record.outcome.status) for record in self.records))

    def notes(self) -> list[Note]:
        """Return what a reader of the numbers must know."""
        return list(dict.fromkeys(note for record in self.records for note in record.notes))

    def doubts_about_its_rate(self) -> list[str]:
        """Return the reservations about the choice of the row's learning rate."""
        spec = self.trained()
        if spec is None or spec.training is None:
            return []
        if not spec.training.tries:
            return [NOT_TUNED]
        own, rates = spec.training.learning_rate, [t.learning_rate for t in spec.training.tries]
        if min(rates) < own < max(rates) or len(rates) == 1:
            return []
        which, other = ("largest", "larger") if own == max(rates) else ("smallest", "smaller")
        return [f"its learning rate {own:g} is the {which} tried; a {other} one may do better"]

    def trained(self) -> TrialSpec | None:
        """Return the spec of a training trial, if there is one."""
        return next((r.spec for r in self.records if r.spec.training), None)


SAMPLED = frozenset(name for name, metric in METRICS.items() if metric.samples)


def _centre(metric: str, values: list[float]) -> float:
    if len(values) == 1:
        return float(values[0])
    return float(median(values)) if metric in SAMPLED else mean(values)
