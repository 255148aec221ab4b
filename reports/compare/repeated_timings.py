"""The round groups in which stored rows were timed again, and their times there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.trial_record import TrialRecord, Value

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
    """

    group: str
    finished_at: str
    times: Mapping[str, Value]


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
    group = record.circumstances.round_group
    return None if group is None else RepeatedTimes(group, record.finished_at, times)
