"""Time trials in turns, so that drift of the machine affects all of them equally."""

import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic

from bsrbench.harness.launch.turns.generation import (
    Generation,
    Member,
    Place,
    TrialWithKey,
    TurnTaking,
)
from bsrbench.harness.launch.turns.joined_generations import joined_generations
from bsrbench.harness.launch.turns.resident import Resident, ServerLost
from bsrbench.harness.launch.turns.stopping import BUDGET, INTERVAL, TurnRules, TurnTimes
from bsrbench.harness.meters.machine_load import Disturbance
from bsrbench.harness.profiler.clock_visits import STEPS
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult

TIMED = "step_seconds"
# CPU time changes little beside a busy neighbour. With three generations t would be 4.3, not 2.8.
CPU_GENERATIONS, CPU_ROUNDS = 5, 6
LOST = "the fork server of this process was killed twice in a row"


def rounds_of(group: Sequence[TrialWithKey]) -> int:
    """Return the minimum number of rounds of a generation: the largest a member asks for."""
    return max((trial.spec.profile.rounds for trial in group if trial.spec.profile), default=0)


def generations_of(group: Sequence[TrialWithKey]) -> int:
    """Return the minimum number of generations of a group: the largest a member asks for."""
    each = (trial.spec.profile.generations for trial in group if trial.spec.profile)
    return max(each, default=0)


def budget_of(group: Sequence[TrialWithKey], members: int) -> float:
    """Return the time budget for a number of members: the group's mean budget for each."""
    each = [trial.spec.profile.budget_seconds for trial in group if trial.spec.profile]
    return sum(each) * members / len(each) if each else 0.0


def cpu_generations_of(group: Sequence[TrialWithKey]) -> int:
    """Return the number of generations in which the CPU time of a group is measured."""
    on_cpu = all(trial.spec.workload.device == "cpu" for trial in group)
    return min(CPU_GENERATIONS, generations_of(group)) if on_cpu else 0


def nothing_told(_: object) -> None:
    """Do nothing before a visit."""


@dataclass(frozen=True)
class GroupRoles:
    """What the members of a group are besides trials to be timed.

    Attributes:
        companions: keys of stored trials that are timed again for comparison. The other trials
            determine the number of rounds and the budget; if none of them is left, timing stops.
        compared_with: keys of the trials that every other one is compared with; by default the
            first one.
    """

    companions: Collection[str] = ()
    compared_with: Collection[str] = ()


def time_in_turns(
    group: Sequence[Member],
    start: Callable[[Member], Resident],
    roles: GroupRoles = GroupRoles(),
    order_seed: int = 0,
    tell: Callable[[Place[Member]], None] = nothing_told,
    now: Callable[[], float] = time.monotonic,
    spent_seconds: float = 0.0,
) -> dict[str, PassResult]:
    """Time every trial in short visits, in turns, and return the result of each trial, by key.

    In a generation every trial is alive in a process of its own that sleeps between its visits.
    Each round visits every trial once, in an order drawn anew. Generations are repeated until the
    intervals of all ratios are narrow enough, or until the sum of the members' budgets is used up.
    A trial that fails is not visited again.

    Args:
        group: the trials, in the order in which they are started.
        start: starts the process of a trial, and returns when it has been warmed up.
        roles: which of them are stored, and which of them others are compared with.
        order_seed: seed of the orders of the rounds.
        tell: called before each visit; it may raise ``KeyboardInterrupt``.
        now: the clock.
        spent_seconds: the part of the budget that is already used up.
    """
    rules = _rules(group, roles)
    left = max(0.0, rules.budget_seconds - spent_seconds)
    order = random.Random(order_seed)  # noqa: S311 - no secret
    taking = TurnTaking(start, tell, order, now)
    return _Timing.of(group, replace(rules, budget_seconds=left), taking).done()


def cpu_time_in_turns(
    group: Sequence[Member],
    start: Callable[[Member], Resident],
    roles: GroupRoles = GroupRoles(),
    order_seed: int = 0,
    tell: Callable[[Place[Member]], None] = nothing_told,
) -> dict[str, PassResult]:
    """Measure every trial's CPU time in turns; the arguments are those of ``time_in_turns``.

    The number of generations and rounds is fixed beforehand.
    """
    new = [trial for trial in group if trial.key not in roles.companions]
    rules = replace(
        _rules(group, roles),
        rounds=min(CPU_ROUNDS, rounds_of(new)),
        generations=cpu_generations_of(new),
        budget_seconds=0.0,
    )
    order = random.Random(order_seed)  # noqa: S311 - no secret
    taking = TurnTaking(start, tell, order, kinds=lambda _: [STEPS])
    return _Timing.of(group, rules, taking).done()


def _rules(group: Sequence[Member], roles: GroupRoles) -> TurnRules:
    """Return how long a group is timed: as its new members ask for."""
    new = [trial for trial in group if trial.key not in roles.companions]
    return TurnRules(
        rounds_of(new),
        generations_of(new),
        budget_of(new, len(group)),
        {trial.key: trial.spec.profile.within for trial in new if trial.spec.profile},
        tuple(trial.key for trial in group if trial.key in roles.compared_with),
    )


@dataclass
class _Timing(Generic[Member]):
    """The timing of one group: the results of each generation, by key."""

    group: Sequence[Member]
    rules: TurnRules
    taking: TurnTaking[Member]
    times: TurnTimes
    results: dict[str, list[PassResult]] = field(default_factory=dict)
    watched: list[tuple[Disturbance, int]] = field(default_factory=list)

    @classmethod
    def of(
        cls, group: Sequence[Member], rules: TurnRules, taking: TurnTaking[Member]
    ) -> "_Timing[Member]":
        """Return the timing of a group before its first generation."""
        return cls(group, rules, taking, TurnTimes(rules))

    def done(self) -> dict[str, PassResult]:
        """Time the group, and return the joined result of each trial by key."""
        began, number, rounds, stopped_by = self.taking.now(), 0, 0, ""
        while not stopped_by or number < self.rules.generations:
            running = self._running()
            new = frozenset(member.key for member in running) & self.rules.within.keys()
            if not new:
                break
            ends = began + self.rules.share_seconds(number)
            rounds += self._generation(number, running, new, ends)
            number += 1
            stopped_by = self._reason_to_stop(began)
        return {
            key: joined_generations(results, self.watched, rounds, stopped_by)
            for key, results in self.results.items()
        }

    def _generation(
        self, number: int, running: Sequence[Member], new: frozenset[str], ends: float
    ) -> int:
        """Time one generation, and return its number of rounds; try again if it is lost."""
        before = dict(self.times.rounds)
        for _ in range(2):
            self.times.rounds = dict(before)
            generation = Generation(
                number, running, self.taking, self.times, ends, self.rules.rounds, new
            )
            try:
                results = generation.run()
            except ServerLost:
                continue
            self.watched += generation.watched
            break
        else:
            results = {member.key: PassResult(Status.CRASHED, LOST) for member in running}
        for member in running:
            self.results.setdefault(member.key, []).append(results[member.key])
        return generation.rounds

    def _running(self) -> list[Member]:
        """Return the trials that have not failed."""
        return [
            trial
            for trial in self.group
            if all(r.status is Status.COMPLETED for r in self.results.get(trial.key, []))
        ]

    def _reason_to_stop(self, began: float) -> str:
        """Return ``interval`` or ``budget``; empty if more generations are needed."""
        running = {member.key for member in self._running()}
        for key in self.times.rounds.keys() - running:
            self.times.drop(key)
        if self.times.all_settled():
            return INTERVAL
        spent = self.taking.now() - began >= self.rules.budget_seconds
        return BUDGET if spent else ""
