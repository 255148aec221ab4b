"""Follow a round group through its generations, for the forecast of what is left."""

import math
from dataclasses import dataclass, field

from bsrbench.harness.launch.forecasting.forecast_inputs import ForecastInputs
from bsrbench.harness.launch.forecasting.work_left import Key, WorkLeft
from bsrbench.harness.launch.planning.forecast import (
    GenerationTime,
    cpu_generation_key,
    generation_key,
    generations,
)
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.launch.turns.generation import Place
from bsrbench.harness.profiler.clock_pass import kinds_after_rounds
from bsrbench.harness.spec.trial_spec import Profile

NEARLY = 0.05  # a rest of the budget that is this small a part of a generation is none


@dataclass
class GroupWork:
    """The generations of a group as pieces of the work.

    Attributes:
        group: the group.
        part: its number among the groups that the run times.
        work: the work of the run; ``None`` if there is no forecast.
        known: the inputs of the forecast; ``None`` if there is none.
    """

    group: Group
    part: int
    work: WorkLeft | None
    known: ForecastInputs | None
    _generation: int = -1
    _cpu_generation: int = -1
    _cpu_began: float = 0.0
    _cpu_seconds: float = 0.0
    _planned: int = 0
    _done_seconds: float = 0.0
    _last_seconds: float = 0.0
    _whole_seconds: float = 0.0
    _began: float = 0.0
    _predicted: dict[tuple[str, str, bool], float] = field(default_factory=dict)

    def note(self, place: Place[PlannedTrial]) -> None:
        """Note what begins now, so what was noted before is done."""
        if self.work is None or self.known is None:
            return
        if self._generation < 0:
            pieces = generations(self.part, self.group, self.known)
            self._planned, self._began = len(pieces), self.work.now()
            self.work.add(pieces)
        if place.generation > self._generation:
            self._begin(self.work, self.known, place)
        self._done_seconds += self._last_seconds
        self._last_seconds = self._seconds(self.known, place)
        if self._whole_seconds > 0:
            self.work.note_share(self._key(), self._done_seconds / self._whole_seconds)

    def note_cpu_time(self, place: Place[PlannedTrial]) -> None:
        """Note what begins now in the generations of CPU time."""
        if self.work is None or place.generation == self._cpu_generation:
            return
        if self._cpu_generation < 0:
            self._cpu_began = self.work.now()
        self.cpu_time_done()
        self._cpu_generation = place.generation
        self.work.begin(cpu_generation_key(self.part, place.generation))

    def cpu_time_done(self) -> None:
        """End the last generation of CPU time."""
        if self.work is not None and self._cpu_generation >= 0:
            self.work.end(cpu_generation_key(self.part, self._cpu_generation))
            self._cpu_seconds = self.work.now() - self._cpu_began

    def leave_out_cpu_time(self) -> None:
        """Leave out the generations of CPU time, which is not measured."""
        if self.work is not None:
            numbers = range(self.group.cpu_generations())
            self.work.drop(cpu_generation_key(self.part, number) for number in numbers)

    def done(self) -> None:
        """End the last generation; leave out those that were planned and are not needed."""
        if self.work is None or self._generation < 0:
            return
        self.work.end(self._key())
        later = range(self._generation + 1, self._planned)
        self.work.drop(generation_key(self.part, number) for number in later)

    def _begin(self, work: WorkLeft, known: ForecastInputs, place: Place[PlannedTrial]) -> None:
        """End the generation before, plan as many as are expected, and begin the next one."""
        if self._generation >= 0:
            work.end(self._key())
        self._generation = place.generation
        self._done_seconds = self._last_seconds = 0.0
        self._whole_seconds = GenerationTime.of(self.group, place.generation, known).seconds()
        self._plan(work, known, place.expected_generations)
        work.begin(self._key())

    def _plan(self, work: WorkLeft, known: ForecastInputs, expected: int) -> None:
        """Plan further generations, as many as the spread needs and the budget allows."""
        least, done = self.group.generations(), self._generation
        typical = generations(self.part, self.group, known)[generation_key(self.part, least - 1)]
        wanted = least
        if done and expected > least:
            each = (work.now() - self._began) / done
            left = self.group.budget_seconds() - self._cpu_seconds - each * least
            wanted = min(expected, least + max(0, math.ceil(left / each - NEARLY)))
        wanted = max(wanted, done + 1)
        added = range(self._planned, wanted)
        work.add({generation_key(self.part, number): typical for number in added})
        work.drop(generation_key(self.part, number) for number in range(wanted, self._planned))
        self._planned = wanted

    def _key(self) -> Key:
        return generation_key(self.part, self._generation)

    def _seconds(self, known: ForecastInputs, place: Place[PlannedTrial]) -> float:
        """Return the predicted time of a start or a visit; rounds beyond the minimum count 0.

        It is computed once: this process must not be busy between the visits.
        """
        late = place.round is not None and place.round >= self.group.rounds()
        if late and self._in_rounds(place):
            return 0.0
        which = (place.member.key, place.kind, place.generation > 0)
        if which not in self._predicted:
            spec = place.member.spec
            profile = spec.profile or Profile()
            self._predicted[which] = (
                known.visit_seconds(place.kind, spec, profile)
                if place.kind
                else known.start_of(spec, profile, again=place.generation > 0)
            )
        return self._predicted[which]

    @staticmethod
    def _in_rounds(place: Place[PlannedTrial]) -> bool:
        return place.kind not in kinds_after_rounds(energy=True)
