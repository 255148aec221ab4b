"""Which trials of a suite are to be run, under which keys, in which order."""

import functools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from harness.frozen import digest
from harness.launch.present import Present
from harness.record import Status, TrialRecord
from harness.record_key import RecordKey
from harness.spec import TrialSpec
from harness.store import Store, latest

# Ways to end that may go otherwise under other limits.
LIMITED = (Status.TIMEOUT, Status.OUT_OF_MEMORY)


@dataclass(frozen=True)
class Planned:
    """A trial, the key its record will have as text and in parts, and its place in the suite."""

    spec: TrialSpec
    key: str
    place: int = 0
    parts: RecordKey | None = None


@dataclass(frozen=True)
class Plan:
    """The trials of a run.

    Attributes:
        trials: all, in the suite's order.
        missing: by key, those to be run.
        order_seed: draws the order in which they run.
    """

    trials: list[Planned]
    missing: dict[str, Planned]
    order_seed: int = 0

    @functools.cached_property
    def groups(self) -> list[list[Planned]]:
        """Return the trials to time: all of a question of which one is missing, for its turns."""
        groups: dict[str, list[Planned]] = {}
        for trial in self.trials:
            if trial.spec.profile and trial.spec.profile.rounds:
                groups.setdefault(trial.spec.workload.question(), []).append(trial)
        wanted = [group for group in groups.values() if any(t.key in self.missing for t in group)]
        return [self._shuffled(group) for group in wanted]

    @functools.cached_property
    def alone(self) -> list[Planned]:
        """Return the missing trials that are in no group."""
        timed = {trial.key for group in self.groups for trial in group}
        return self._shuffled([t for key, t in self.missing.items() if key not in timed])

    def _shuffled(self, trials: list[Planned]) -> list[Planned]:
        found = list(trials)
        random.Random(self.order_seed).shuffle(found)  # noqa: S311 - no secret
        return found


@dataclass(frozen=True)
class Planner:
    """What decides which trials are missing.

    Attributes:
        store: what there is.
        fingerprint: method name -> hash of its source.
        machine: its id.
        limits: what passes may take now, as records hold it.
        order_seed: draws the order.
        present: what else decides numbers here and now.
    """

    store: Store
    fingerprint: Callable[[str], str]
    machine: str
    limits: dict[str, Any] = field(default_factory=dict)
    order_seed: int = 0
    present: Present = field(default_factory=Present)

    def plan(self, specs: Iterable[TrialSpec], *, again: bool) -> Plan:
        """Return what is to be run: all, or what has no current record, or failed by other limits.

        A record is current while it is the newest of its trial on its machine, which is what
        reports show, and has the key that the trial would have now.
        """
        trials: dict[str, Planned] = {}
        fingerprint = functools.cache(self.fingerprint)  # of a suite with thousands of seeds
        for place, spec in enumerate(specs):
            parts = self.present.key(spec, fingerprint(spec.method), self.machine)
            trials.setdefault(str(parts), Planned(spec, str(parts), place, parts))
        newest = {} if again else {r.key: r for r in latest(self.store.records()[0])}
        missing = {
            key: trial for key, trial in trials.items() if is_missing(newest.get(key), self.limits)
        }
        return Plan(list(trials.values()), missing, self.order_seed)


def is_missing(record: TrialRecord | None, limits: dict[str, Any]) -> bool:
    """Return whether a trial is to be run though it may have a record.

    Args:
        record: the newest of the trial on its machine, if it has the key that the trial would
            have now.
        limits: what passes may take now, as records hold it.
    """
    if record is None:
        return True
    if record.environment.get("not_started"):  # predicted only, at what was free then
        return True
    before = record.environment.get("limits")
    return record.outcome.status in LIMITED and before not in (None, limits)


def group_key(group: Iterable[Planned]) -> str:
    """Return the name under which a group's times are staged, whatever its order."""
    return f"group-{digest(sorted(trial.key for trial in group))}"
