"""Time a round group of a run, in parts that fit into memory together."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bsrbench.harness.launch.forecasting.forecast_inputs import ForecastInputs
from bsrbench.harness.launch.forecasting.progress_keeper import ProgressKeeper
from bsrbench.harness.launch.group_times import STAGED, GroupTimes
from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.launch.planning.resident_memory import (
    ResidentMemory,
    keys_compared_with,
)
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.launch.round_group import GroupRoles, cpu_time_in_turns, time_in_turns
from bsrbench.harness.launch.run_settings import Launcher, RunSettings
from bsrbench.harness.launch.turns.generation import Place
from bsrbench.harness.launch.turns.group_work import GroupWork
from bsrbench.harness.launch.turns.joined_cpu_time import failed_measuring, with_cpu_time
from bsrbench.harness.launch.turns.resident import Resident
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.trial_passes import CLOCK

TELL_SECONDS = 1.0  # visits take down to 20 ms; telling each would disturb them


@dataclass(frozen=True)
class RunProgress:
    """Shows what a run does.

    Attributes:
        keeper: counts and shows what is done.
        say: prints a line.
        stop_if_asked: raises ``KeyboardInterrupt`` if the user has stopped the run.
    """

    keeper: ProgressKeeper
    say: Callable[[str], None]
    stop_if_asked: Callable[[], None]


@dataclass
class GroupTiming:
    """Times the round groups of a run.

    Attributes:
        launcher: starts the processes.
        store: stores the times until the records are made.
        run_settings: the settings of the run.
        progress: shows how far it is.
        memory: what is known of the memory of the trials.
        known: the inputs of the forecast; ``None`` if there is none.
        now: the clock.
    """

    launcher: Launcher
    store: Store
    run_settings: RunSettings
    progress: RunProgress
    memory: ResidentMemory
    known: ForecastInputs | None = None
    now: Callable[[], float] = time.monotonic
    _told: float = 0.0
    _parts: int = 0

    def parts(self, group: Group) -> Iterator[Group]:
        """Yield the parts of a group whose trials are alive together.

        The records of a part must be stored before the next part is asked for: its trials are
        timed again with those that every other trial is compared with.
        """
        compared = keys_compared_with(group.members(), self.run_settings.compared_with)
        first, *others = self.memory.parts(group, compared)
        if others:
            why = self.memory.why_split(group)
            self.progress.say(f"  timed in {1 + len(others)} groups: {why}")
        yield replace(group, new=tuple(first))
        for part in others:
            made = [self.store.record(trial.key) for trial in group.new if trial.key in compared]
            again = (r for r in made if r is not None and r.outcome.status is Status.COMPLETED)
            beside = Companions((*again, *group.beside.records), group.beside.left_out)
            yield replace(group, new=tuple(part), beside=beside)

    def time(self, group: Group) -> GroupTimes:
        """Time a group in turns, and store the times until its new trials have their records.

        Raises:
            KeyboardInterrupt: the user has stopped the run.
        """
        members, again = group.members(), {trial.key for trial in group.companions()}
        work = GroupWork(group, self._parts, self.progress.keeper.tally.work, self.known)
        self._parts += 1
        began = self.now()
        cpu, fits = self._cpu_times(group, work)

        def start(trial: PlannedTrial) -> Resident:
            return self.launcher.resident(trial.spec, log=self._log(group, trial))

        def tell(place: Place[PlannedTrial]) -> None:
            self._tell(group, place)
            work.note(place)

        clocks = time_in_turns(
            fits,
            start,
            self._roles(group),
            self.run_settings.order_seed,
            tell,
            self.now,
            self.now() - began,
        )
        work.done()
        self._stop_if_killed(clocks)
        done = {key: with_cpu_time(clock, cpu.get(key)) for key, clock in clocks.items()}
        clocks = {
            trial.key: done.get(trial.key) or failed_measuring(cpu[trial.key]) for trial in members
        }
        times = GroupTimes.of(members, again, clocks)
        self.store.stage(group.key(), STAGED, times.plain())
        for note in times.failures():
            self.progress.say(note)
        return times

    def _cpu_times(
        self, group: Group, work: GroupWork
    ) -> tuple[dict[str, PassResult], list[PlannedTrial]]:
        """Measure CPU time; return it by key, and the members that are still to be timed.

        It is measured first. What it takes of the budget is missing for the wall clock, not added.
        """
        members = group.members()
        if not group.cpu_generations() or not self.launcher.measures_cpu_time:
            work.leave_out_cpu_time()
            return {}, members

        def start(trial: PlannedTrial) -> Resident:
            return self.launcher.sleeping_resident(trial.spec, log=self._log(group, trial))

        def tell(place: Place[PlannedTrial]) -> None:
            self._tell_cpu(group, place)
            work.note_cpu_time(place)

        results = cpu_time_in_turns(
            members,
            start,
            self._roles(group),
            self.run_settings.order_seed,
            tell,
        )
        work.cpu_time_done()
        self._stop_if_killed(results)
        fits = [trial for trial in members if results[trial.key].status is Status.COMPLETED]
        return results, fits

    def _roles(self, group: Group) -> GroupRoles:
        compared = keys_compared_with(group.members(), self.run_settings.compared_with)
        return GroupRoles({trial.key for trial in group.companions()}, compared)

    def _log(self, group: Group, trial: PlannedTrial) -> Path:
        """Return the log of a timed pass; that of a stored record is not overwritten."""
        again = trial in group.companions()
        return self.store.log(trial.key, f"{CLOCK}-again" if again else CLOCK)

    def _stop_if_killed(self, clocks: Mapping[str, PassResult]) -> None:
        """Stop if processes were killed because the user has stopped the run."""
        if any(clock.status is Status.CRASHED for clock in clocks.values()):
            self.progress.stop_if_asked()

    def _tell_cpu(self, group: Group, place: Place[PlannedTrial]) -> None:
        """Tell every start of a pass of CPU time."""
        self.progress.stop_if_asked()
        self.progress.keeper.quiet(visit=place.round is not None)
        if place.round is None:
            number = f"generation {place.generation + 1} of {group.cpu_generations()}"
            label = place.member.spec.label()
            self.progress.keeper.tell(f"starting {label} for its CPU time, {number}")
            self.progress.keeper.advance()

    def _tell(self, group: Group, place: Place[PlannedTrial]) -> None:
        """Tell every start, and the rounds at most once per second."""
        self.progress.stop_if_asked()
        keeper = self.progress.keeper
        keeper.quiet(visit=place.round is not None)
        least = group.generations()
        generation = f"generation {place.generation + 1} of at least {least}"
        if place.round is None:
            keeper.tell(f"starting {place.member.spec.label()} for timing, {generation}")
            if place.generation < least:
                keeper.advance()
        elif self.now() - self._told >= TELL_SECONDS:
            self._told = self.now()
            rows = len(group.members())
            counted = f"{rows} row{'' if rows == 1 else 's'}"
            round_ = f"round {place.round + 1}"
            keeper.tell(f"timing {counted} in turns, {generation}, {round_}", visit=True)
