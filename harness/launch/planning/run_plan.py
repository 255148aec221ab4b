"""Plan which trials of a suite run, under which keys and in which order."""

import functools
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bsrbench.harness.launch.group_times import left_by_interrupted
from bsrbench.harness.launch.planning.companions import (
    Companions,
    ComparedWith,
    companions_of,
    none_in_particular,
)
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.planning.stored_trials import standing, why_not_timed_again
from bsrbench.harness.launch.round_group import (
    budget_of,
    cpu_generations_of,
    generations_of,
    rounds_of,
)
from bsrbench.harness.records.record_key import RecordKey
from bsrbench.harness.records.store import Store, latest
from bsrbench.harness.records.trial_environment import NO_LIMITS, RecordedLimits
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.spec.trial_spec import TrialSpec


@dataclass(frozen=True)
class PlannedTrial:
    """A trial, the key of its record as text and in parts, and its place in the suite."""

    spec: TrialSpec
    key: str
    place: int = 0
    parts: RecordKey | None = None


@dataclass(frozen=True)
class Group:
    """Trials of one question that are timed in turns with each other.

    Attributes:
        new: the new trials, whose records get the times.
        beside: the stored trials that are timed again; their records do not change.
        order_seed: seed of the order of the turns.
    """

    new: tuple[PlannedTrial, ...]
    beside: Companions = field(default_factory=Companions)
    order_seed: int = 0

    def companions(self) -> list[PlannedTrial]:
        """Return the stored trials that are timed again."""
        return [PlannedTrial(record.spec, record.key) for record in self.beside.records]

    def members(self) -> list[PlannedTrial]:
        """Return all trials of the group, in the order of their turns."""
        return shuffled([*self.new, *self.companions()], self.order_seed)

    def rounds(self) -> int:
        """Return the minimum number of rounds of a generation."""
        return rounds_of(self.new)

    def generations(self) -> int:
        """Return the minimum number of generations."""
        return generations_of(self.new)

    def cpu_generations(self) -> int:
        """Return the number of generations in which CPU time is measured."""
        return cpu_generations_of(self.new)

    def starts(self, cpu_too: bool) -> int:
        """Return how often each member is started, at least."""
        return self.generations() + cpu_too * self.cpu_generations()

    def budget_seconds(self) -> float:
        """Return the time budget of all generations, in seconds."""
        return budget_of(self.new, len(self.new) + len(self.beside.records))

    def key(self) -> str:
        """Return the name under which the group's times are staged; it ignores the order."""
        return f"group-{digest(sorted(trial.key for trial in self.members()))}"

    def without(self, keys: Iterable[str]) -> "Group | None":
        """Return the group without some new trials; ``None`` if no new trial is left."""
        left = tuple(trial for trial in self.new if trial.key not in set(keys))
        return replace(self, new=left) if left else None


@dataclass(frozen=True)
class Plan:
    """The trials of a run.

    Attributes:
        trials: all trials, in the suite's order.
        missing: key -> trial, for the trials to run.
        order_seed: seed of the order in which they run.
        timed: keys of missing trials whose times an interrupted run has stored.
        beside: question -> the stored trials that are timed again with its missing trials.
    """

    trials: list[PlannedTrial]
    missing: dict[str, PlannedTrial]
    order_seed: int = 0
    timed: frozenset[str] = frozenset()
    beside: Mapping[str, Companions] = field(default_factory=dict)

    @functools.cached_property
    def groups(self) -> list[Group]:
        """Return the trials to time: for each question, the missing trials and their companions."""
        groups = []
        for question, new in by_question(self.missing.values()).items():
            untimed = tuple(trial for trial in new if trial.key not in self.timed)
            if untimed:
                beside = self.beside.get(question, Companions())
                groups.append(Group(untimed, beside, self.order_seed))
        return groups

    @functools.cached_property
    def alone(self) -> list[PlannedTrial]:
        """Return the missing trials that are in no group, because they are not timed."""
        timed = {trial.key for trial in self.missing.values() if is_timed(trial.spec)}
        return shuffled([t for k, t in self.missing.items() if k not in timed], self.order_seed)


def is_timed(spec: TrialSpec) -> bool:
    """Return whether a trial is to be timed in turns with others."""
    return bool(spec.profile and spec.profile.rounds)


def by_question(trials: Iterable[PlannedTrial]) -> dict[str, list[PlannedTrial]]:
    """Return the timed trials, grouped by question."""
    groups: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        if is_timed(trial.spec):
            groups.setdefault(trial.spec.workload.question(), []).append(trial)
    return groups


def shuffled(trials: Sequence[PlannedTrial], order_seed: int) -> list[PlannedTrial]:
    """Return trials in a random order that depends only on the seed."""
    ordered = list(trials)
    random.Random(order_seed).shuffle(ordered)  # noqa: S311 - no secret
    return ordered


@dataclass(frozen=True)
class Planner:
    """Decides which trials are missing.

    Attributes:
        store: the stored records.
        fingerprint: method name -> hash of its source.
        machine: id of this machine.
        limits: the current limits of passes, as records state them.
        order_seed: seed of the order of the trials.
        compared_with: chooses the rows that every other row is compared with.
        trusted: method files that the user allows to run, in addition to those of the trials.
        present: the current conditions that affect numbers.
    """

    store: Store
    fingerprint: Callable[[str], str]
    machine: str
    limits: RecordedLimits = NO_LIMITS
    order_seed: int = 0
    compared_with: ComparedWith = none_in_particular
    trusted: tuple[str, ...] = ()
    present: CurrentConditions = field(default_factory=CurrentConditions)

    def plan(self, specs: Iterable[TrialSpec], *, again: bool) -> Plan:
        """Return the plan: run the trials without a current record, or all if ``again``.

        A record is current if two conditions are true. It is the newest record of its trial on its
        machine; reports show only this record. Its key equals the key that the trial would get now.
        A trial that failed under other limits also runs again.
        """
        trials: dict[str, PlannedTrial] = {}
        fingerprint = functools.cache(self.fingerprint)  # a suite can have thousands of seeds
        for place, spec in enumerate(specs):
            parts = self.present.key(spec, fingerprint(spec.method), self.machine)
            trials.setdefault(str(parts), PlannedTrial(spec, str(parts), place, parts))
        stored = latest(self.store.records()[0])
        asked = {trial.parts for trial in trials.values() if trial.parts is not None}
        stands = {} if again else standing(asked, stored, self.limits)
        missing = {key: trial for key, trial in trials.items() if trial.parts not in stands}
        timed = frozenset() if again else left_by_interrupted(self.store) & missing.keys()
        untimed = [trial for key, trial in missing.items() if key not in timed]
        named = {trial.spec.method for trial in trials.values()} | set(self.trusted)
        here = [r for r in stored if r.environment.machine_id == self.machine]
        beside = self._beside(by_question(untimed), here, named, fingerprint)
        return Plan(list(trials.values()), missing, self.order_seed, frozenset(timed), beside)

    def _beside(
        self,
        groups: Mapping[str, Sequence[PlannedTrial]],
        here: Sequence[TrialRecord],
        named: Collection[str],
        fingerprint: Callable[[str], str],
    ) -> dict[str, Companions]:
        """Return, by question, the stored trials that are timed again with the missing trials."""
        why_not = why_not_timed_again(named, fingerprint, self.present)
        return {
            question: companions_of(
                [trial.spec for trial in new], here, why_not, self.compared_with
            )
            for question, new in groups.items()
        }
