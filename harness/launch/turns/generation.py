"""One generation of a round group: all members alive at once, and visited in turns."""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from bsrbench.harness.launch.turns.resident import Resident
from bsrbench.harness.launch.turns.stopping import TurnTimes
from bsrbench.harness.meters.machine_load import SHORTEST_SECONDS, Disturbance, LoadWatch
from bsrbench.harness.profiler.clock_pass import kinds_after_rounds, kinds_in_round
from bsrbench.harness.profiler.clock_visits import STEPS
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import PassResult, VisitResult


class TrialWithKey(Protocol):
    """A trial and the key of its record."""

    @property
    def spec(self) -> TrialSpec:
        """The trial."""

    @property
    def key(self) -> str:
        """The record's key."""


Member = TypeVar("Member", bound=TrialWithKey)


@dataclass(frozen=True)
class Place(Generic[Member]):
    """Where in the timing of a group a visit or a start lies.

    Attributes:
        member: who is visited or started.
        generation: the generation, counted from 0.
        round: the round in the generation, counted from 0; ``None`` if the member is started.
        kind: the kind of the visit; empty if the member is started.
        expected_generations: number of generations that the spread so far suggests; 0 if it does
            not suggest any.
    """

    member: Member
    generation: int
    round: int | None = None
    kind: str = ""
    expected_generations: int = 0


@dataclass(frozen=True)
class TurnTaking(Generic[Member]):
    """How the members are started and the turns are taken.

    Attributes:
        start: starts a member's process, and returns when it has been warmed up.
        tell: called before each start and each visit.
        order: draws the order of each round.
        now: the clock.
        kinds: returns the kinds of the visits in a round of a generation.
    """

    start: Callable[[Member], Resident]
    tell: Callable[[Place[Member]], None]
    order: random.Random
    now: Callable[[], float] = time.monotonic
    kinds: Callable[[int], Sequence[str]] = kinds_in_round


@dataclass
class Generation(Generic[Member]):
    """One generation of a round group.

    Attributes:
        number: its number, counted from 0.
        members: the members that have not failed before.
        taking: how turns are taken.
        times: gets the times of the rounds.
        ends: when its share of the budget is used, by the clock.
        least_rounds: minimum number of rounds.
        new: keys of the new members; without them, the others need no times.
        rounds: number of rounds made.
        watched: disturbances with their number of rounds.
    """

    number: int
    members: Sequence[Member]
    taking: TurnTaking[Member]
    times: TurnTimes
    ends: float
    least_rounds: int
    new: frozenset[str]
    rounds: int = 0
    watched: list[tuple[Disturbance, int]] = field(default_factory=list)
    _alive: dict[str, Resident] = field(default_factory=dict)
    _energy: set[str] = field(default_factory=set)

    def run(self) -> dict[str, PassResult]:
        """Start all members, visit them in rounds, and end them; return their results by key.

        Members are built and warmed up one after the other, so that nothing runs beside a visit.

        Raises:
            ServerLost: the fork server was killed; nothing of this generation is known.
        """
        expected = self.times.expected_generations()
        self.times.begin_generation([member.key for member in self.members])
        with ExitStack() as stack:
            residents = {}
            for member in self.members:
                self.taking.tell(Place(member, self.number, expected_generations=expected))
                residents[member.key] = resident = self.taking.start(member)
                stack.callback(resident.close)
                self._alive[member.key] = resident
                self._note(member, resident.ready)
            while self._alive.keys() & self.new and not self._is_enough():
                self._watched_rounds()
            for member in self.members:
                for kind in kinds_after_rounds(energy=member.key in self._energy):
                    if member.key in self._alive:
                        self._visit(member, kind)
            return {key: resident.end() for key, resident in residents.items()}

    def _is_enough(self) -> bool:
        if self.rounds < self.least_rounds:
            return False
        return self.taking.now() >= self.ends or self.times.generation_settled()

    def _watched_rounds(self) -> None:
        """Make rounds until they have been watched long enough to detect disturbances."""
        began, first = self.taking.now(), self.rounds
        cores = {core for resident in self._alive.values() for core in resident.cores}
        with LoadWatch(sorted(cores)) as watch:
            while self._alive.keys() & self.new:
                watch.timed_seconds += self._round()
                if self._is_enough() or self.taking.now() - began >= SHORTEST_SECONDS:
                    break
        self.watched.append((watch.disturbance, self.rounds - first))

    def _round(self) -> float:
        """Visit every member in an order drawn anew; return the CPU seconds of the visits."""
        order = self.taking.order.sample(self.members, len(self.members))
        visits = [
            self._visit(member, kind)
            for kind in self.taking.kinds(self.rounds)
            for member in order
            if member.key in self._alive
        ]
        self.rounds += 1
        return sum(visits)

    def _visit(self, member: Member, kind: str) -> float:
        self.taking.tell(Place(member, self.number, self.rounds, kind))
        result = self._alive[member.key].visit(kind)
        if result.visited.seconds is not None and kind == STEPS:
            self.times.add(member.key, result.visited.seconds)
        self._note(member, result)
        return result.visited.cpu_seconds

    def _note(self, member: Member, result: VisitResult) -> None:
        """Note that a member can read its energy, or end one that has failed: it may still run."""
        if result.status is not Status.COMPLETED:
            self._alive.pop(member.key).close()
            self.times.drop(member.key)
        elif result.visited.energy:
            self._energy.add(member.key)
