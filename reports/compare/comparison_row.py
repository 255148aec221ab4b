"""A row of a comparison: all trials that differ only in seed or in what was measured."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import Generations
from bsrbench.harness.records.remarks import Note
from bsrbench.harness.records.trial_record import Status, TrialRecord
from bsrbench.harness.spec.row_name import LEARNING_RATE, MACHINE, Apart, RowLabel, RowName
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.reports.compare.record_numbers import numbers
from bsrbench.reports.compare.repeated_timings import STEP, RepeatedTimes, times_of, turns_of
from bsrbench.reports.compare.statistics import Summary, mean, mean_and_range, median_and_quartiles

NOT_TUNED = "its learning rate was not tuned"


@dataclass(frozen=True)
class ComparisonRow:
    """All trials that differ only in seed or in what was measured, on one machine.

    Attributes:
        printed: the row's name in reports, unique in a comparison.
        records: the newest record of each trial, without trials of a learning-rate search. If
            there are several profiles, only the one with the most measurements.
        again: times from later round groups, where it was timed again in turns with added rows.
    """

    printed: RowLabel
    records: tuple[TrialRecord, ...]
    again: tuple[RepeatedTimes, ...] = ()

    @cached_property
    def label(self) -> str:
        """Return the row's name in reports; it is text for readers and must not be compared."""
        return str(self.printed)

    @cached_property
    def name(self) -> RowName:
        """Return the row's name in every comparison: method, options and axes."""
        return self.spec.row_name()

    def apart(self) -> Apart:
        """Return the machine and the learning rate, which distinguish rows of the same name."""
        spec = self.trained()
        return {MACHINE: self.machine(), LEARNING_RATE: spec.rates() if spec else None}

    def identity(self) -> Hashable:
        """Return an identifier that is unique in a comparison."""
        return (self.name, *self.apart().values())

    @property
    def spec(self) -> TrialSpec:
        """Return a spec with the method, options and workload of this row."""
        return self.records[0].spec

    def value(self, metric: str) -> float | None:
        """Return a metric's value: the median of samples, the mean over seeds."""
        return self._values.get(metric)

    def value_of(self, metric: str) -> float | None:
        """Return the same value as ``value``, without computing the values of all other metrics."""
        values = self._numbers(metric)
        return _centre(metric, values) if values else None

    def _numbers(self, metric: str) -> list[float]:
        if metric not in self._asked:
            self._asked[metric] = [n for record in self.records for n in numbers(record, metric)]
        return self._asked[metric]

    @cached_property
    def _asked(self) -> dict[str, list[float]]:
        """Return the cache of ``_numbers``, which every writer calls for the same metrics."""
        return {}

    @cached_property
    def _values(self) -> dict[str, float]:
        """Return the values of all metrics; a large report reads each of them several times."""
        return {metric: _centre(metric, values) for metric, values in self.samples().items()}

    def samples(self) -> dict[str, list[float]]:
        """Return all samples of each metric that has any, in the order of the records."""
        return self._samples

    @cached_property
    def _samples(self) -> dict[str, list[float]]:
        samples: dict[str, list[float]] = {}
        for record in self.records:
            for metric, value in record.measurements.items():
                if value is None:
                    continue
                if type(value) is list:
                    samples[metric] = [*samples.get(metric, []), *value]
                elif metric in samples:
                    samples[metric].append(value)  # type: ignore[arg-type]  # not a list
                else:
                    samples[metric] = [value]  # type: ignore[list-item]
        return {metric: values for metric, values in samples.items() if values}

    def by_seed(self, metric: str) -> dict[int, float]:
        """Return a metric's value for each seed that was trained."""
        return {
            record.spec.seed: values[0]
            for record in self.records
            if record.spec.training and (values := numbers(record, metric))
        }

    @cached_property
    def tested_seeds(self) -> tuple[int, ...]:
        """Return the tested seeds in order, without seeds that failed."""
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
            task: {
                seed: accuracies[place]
                for seed, accuracies in read.items()
                if place < len(accuracies)
            }
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
        """Return median and quartiles of a sampled metric; mean and range over seeds of others."""
        if metric not in self._spreads:
            summary = median_and_quartiles if metric in SAMPLED else mean_and_range
            self._spreads[metric] = summary(self._numbers(metric))
        return self._spreads[metric]

    @cached_property
    def _spreads(self) -> dict[str, Summary | None]:
        """Return the cache of ``spread``, which every writer calls."""
        return {}

    def by_block(self, metric: str) -> list[int]:
        """Return one integer per block, as recorded."""
        return [n for r in self.records for n in map(int, numbers(r, metric))]

    def is_superseded(self, metric: str) -> bool:
        """Tell whether a metric replaces another metric for which the row has a value."""
        return self.value(METRICS[metric].stands_in_for) is not None

    def round_group(self) -> str | None:
        """Return the round group in which the row was timed."""
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
        profile = self.profiled()
        return profile if profile and profile.measurements.get("step_seconds") else None

    def rounds(self) -> int:
        """Return the number of timing visits; 0 if nothing was timed."""
        return sum(map(len, self.generations(STEP).values()))

    def machine(self) -> str:
        """Return the id of the machine on which all records of the row were made."""
        return self.records[0].environment.machine_id

    def why_missing(self, metric: str) -> str:
        """Return why a metric has no value, as stated by the record that should have it."""
        record = self.profiled() or self.records[0]
        if METRICS[metric].is_by_seed():
            record = next((r for r in self.records if r.spec.training), record)
        absence = record.missing.get(metric)
        return absence.in_words() if absence else "not measured"

    def turns(self, other: "ComparisonRow | None" = None) -> dict[str, RepeatedTimes]:
        """Return the row's times in each round group, by the name of the group.

        Args:
            other: a row whose record may contain times of this row. The two rows may come from
                different results folders.
        """
        record = self.timed()
        if record is None:
            return {}
        other_record = other.timed() if other else None
        times = other_record.beside.get(record.key) if other_record else None
        groups = (
            *((turns_of(other_record, times),) if other_record and times else ()),
            *self.again,
            turns_of(record, record.measurements),
        )
        return {turns.group: turns for turns in groups if turns}

    def generations(self, metric: str, turns: RepeatedTimes | None = None) -> Generations:
        """Return the times of the visits of each process generation, by its number.

        The result is empty if the metric was not timed.

        Args:
            metric: the timed metric.
            turns: the times of a round group; by default those of the row's own record.
        """
        key = metric, turns.group if turns else None
        if key not in self._generations:
            self._generations[key] = self._by_generation(metric, turns)
        return self._generations[key]

    def _by_generation(self, metric: str, turns: RepeatedTimes | None) -> Generations:
        record = self.timed()
        if record is None or record.spec.profile is None:
            return {}
        own = turns or times_of(record, record.measurements)
        return own.by_generation(metric, record.spec.profile.steps)

    def planned_generations(self, turns: RepeatedTimes) -> int | None:
        """Return how many generations a round group planned; ``None`` if it had none."""
        record = self.timed()
        profile = record.spec.profile if record else None
        return profile.generations if profile and turns.generations else None

    @cached_property
    def _generations(self) -> dict[tuple[str, str | None], Generations]:
        """Return the cache of ``generations``, which every ratio calls."""
        return {}

    def failures(self) -> list[str]:
        """Return the outcome of each trial that did not complete."""
        return [
            f"seed {record.spec.seed}: {record.outcome.status} ({record.outcome.reason})"
            for record in self.records
            if record.outcome.status is not Status.COMPLETED
        ]

    def statuses(self) -> list[str]:
        """Return the statuses of the trials, without duplicates."""
        return list(dict.fromkeys(str(record.outcome.status) for record in self.records))

    def notes(self) -> list[Note]:
        """Return the notes of all records, without duplicates."""
        return list(dict.fromkeys(note for record in self.records for note in record.notes))

    def doubts_about_its_rate(self) -> list[str]:
        """Return reasons to doubt the choice of the row's learning rate."""
        spec = self.trained()
        if spec is None or spec.training is None:
            return []
        if not spec.training.tries:
            return [NOT_TUNED]
        own, rates = spec.training.learning_rate, [t.learning_rate for t in spec.training.tries]
        if min(rates) < own < max(rates) or len(rates) == 1:
            return []
        end, direction = ("largest", "larger") if own == max(rates) else ("smallest", "smaller")
        return [f"its learning rate {own:g} is the {end} tried; a {direction} one may do better"]

    def trained(self) -> TrialSpec | None:
        """Return the spec of a training trial, if there is one."""
        return next((r.spec for r in self.records if r.spec.training), None)


SAMPLED = frozenset(name for name, metric in METRICS.items() if metric.samples)


def _centre(metric: str, values: list[float]) -> float:
    if len(values) == 1:
        return float(values[0])
    return float(median(values)) if metric in SAMPLED else mean(values)
