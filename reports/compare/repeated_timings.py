"""The round groups in which stored rows were timed again, and their times there."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import Generations, by_generation
from bsrbench.harness.records.trial_record import TrialRecord, Value
from bsrbench.reports.compare.record_numbers import as_numbers

STEP = "step_seconds"

# The metric of seconds by which each timed metric is compared. A rate is computed from seconds.
TIMED_BY = {
    name: metric.rate_of or name
    for name, metric in METRICS.items()
    if metric.is_timed() and (metric.samples or metric.rate_of)
}


def has_rounds(metric: str) -> bool:
    """Tell whether a metric is timed in every round, so that it has ratios per round."""
    return TIMED_BY.get(metric) == metric


@dataclass(frozen=True)
class RepeatedTimes:
    """The times of a row in one round group.

    Attributes:
        group: the name of the group.
        finished_at: when the last new row of the group was finished.
        times: samples by metric; samples of one visit are adjacent.
        generations: process generation of each sample, by metric. Empty if every visit had a
            process of its own.
    """

    group: str
    finished_at: str
    times: Mapping[str, Value]
    generations: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def by_generation(self, metric: str, steps: int) -> Generations:
        """Return the times of the visits of each process generation.

        Args:
            metric: the timed metric.
            steps: number of steps of a visit, if every visit had a process of its own. All samples
                of such a visit count as one observation. Samples of other metrics than the step
                time are divided equally among the visits.

        Returns:
            The times by the number of the generation. Empty if the metric was not timed, or if it
            is not known which samples belong together.
        """
        samples = as_numbers(self.times.get(metric))
        if self.generations:
            numbers = self.generations.get(metric, ())
            return by_generation(samples, 1, numbers) if len(numbers) == len(samples) else {}
        rounds = math.ceil(len(as_numbers(self.times.get(STEP))) / steps)
        size = steps if metric == STEP else len(samples) // max(1, rounds)
        if not size or math.ceil(len(samples) / size) != rounds:
            return {}
        return by_generation(samples, size)


def timed_again(records: Iterable[TrialRecord]) -> dict[str, tuple[RepeatedTimes, ...]]:
    """Return the times of stored trials that were timed again with new trials, by record key."""
    groups_by_key: dict[str, dict[str, RepeatedTimes]] = {}
    for record in records:
        for key, times in record.beside.items():
            turns = turns_of(record, times)
            if turns is None:
                continue
            before = groups_by_key.setdefault(key, {}).setdefault(turns.group, turns)
            last = max(before.finished_at, turns.finished_at)
            groups_by_key[key][turns.group] = replace(before, finished_at=last)
    return {key: tuple(groups.values()) for key, groups in groups_by_key.items()}


def turns_of(record: TrialRecord, times: Mapping[str, Value]) -> RepeatedTimes | None:
    """Return times with the round group of a record; ``None`` if the record has no group."""
    return times_of(record, times) if record.circumstances.round_group is not None else None


def times_of(record: TrialRecord, times: Mapping[str, Value]) -> RepeatedTimes:
    """Return times with the round group of a record; the name is empty if it has no group."""
    circumstances = record.circumstances
    # Stored rows take turns with the row of the record, so they have its process generations.
    generations = circumstances.timing.generations if circumstances.timing else {}
    return RepeatedTimes(circumstances.round_group or "", record.finished_at, times, generations)
