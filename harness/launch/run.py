"""Run the trials of a suite that are missing or stale, and store their records."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from harness.assembly import make_record, stored_result
from harness.environment import describe_run
from harness.errors import BadInput
from harness.launch.round_group import rounds_of, time_in_turns
from harness.record import Status, TrialRecord
from harness.spec import TrialSpec, digest
from harness.store import Store
from harness.trial import CLOCK, PassResult, passes_of


class Launcher(Protocol):
    """Where a pass runs."""

    def check(self, spec: TrialSpec) -> PassResult:
        """Return whether the trial can be started at all."""

    def perform(self, pass_name: str, spec: TrialSpec, **keeping: Any) -> PassResult:
        """Run one pass and return how it ended; a training pass keeps a checkpoint."""


class Watcher(Protocol):
    """Who is told how the run goes on."""

    def begin(self, total: int) -> None:
        """Learn how many passes there will be."""

    def start(self, what: str) -> None:
        """Learn what runs now."""

    def advance(self) -> None:
        """Learn that a pass is done."""

    def say(self, line: str) -> None:
        """Learn something a person should read."""


@dataclass(frozen=True)
class Planned:
    """A trial and the key its record will have."""

    spec: TrialSpec
    key: str


@dataclass(frozen=True)
class Runner:
    """What a run needs.

    Attributes:
        launcher: where a pass runs.
        store: where records go.
        fingerprint: method name -> hash of its source.
        watcher: who is told.
        checkpoint_seconds: how much of a training pass a kill may lose.
    """

    launcher: Launcher
    store: Store
    fingerprint: Callable[[str], str]
    watcher: Watcher
    checkpoint_seconds: float = 60.0

    def run(self, specs: Iterable[TrialSpec], *, again: bool = False) -> list[TrialRecord]:
        """Run what has no record yet, and return the records of all trials.

        Profile trials are timed first, in turns; if one member's times are missing, the whole
        group is timed again, and the records of the others get the new times.

        Raises:
            BadInput: a trial can never work as it is written; nothing has been run then.
        """
        self.store.open_for_writing()
        environment = describe_run()
        planned = [self._plan(spec, environment["machine_id"]) for spec in specs]
        missing = [trial for trial in planned if again or self.store.record(trial.key) is None]
        self._say_what_is_there(planned, missing)
        if missing:
            self._check([trial.spec for trial in missing])
            self._run_missing(planned, missing, environment, again=again)
        found = [self.store.record(trial.key) for trial in planned]
        return [record for record in found if record is not None]

    def _run_missing(
        self,
        planned: list[Planned],
        missing: list[Planned],
        environment: dict[str, Any],
        *,
        again: bool,
    ) -> None:
        groups = [group for group in _groups(planned) if any(t in missing for t in group)]
        timed = [trial for group in groups for trial in group]
        alone = [trial for trial in missing if trial not in timed]
        if again:
            for key in [*map(_group_key, groups), *(trial.key for trial in missing)]:
                self.store.unstage(key)
        others = sum(len(passes_of(trial.spec)) for trial in missing) - sum(
            trial in missing for trial in timed
        )
        self.watcher.begin(sum(len(group) * rounds_of(group) for group in groups) + others)
        for group in groups:
            self._run_group(group, missing, environment)
        for trial in alone:
            self._finish(trial, {}, environment)

    def _plan(self, spec: TrialSpec, machine: str) -> Planned:
        source = self.fingerprint(spec.method)
        return Planned(spec, f"{_file_name(spec.method)}-{spec.trial_id()}-{source}-{machine}")

    def _say_what_is_there(self, planned: list[Planned], missing: list[Planned]) -> None:
        there = len(planned) - len(missing)
        if there:
            self.watcher.say(f"{there} of {len(planned)} trials are stored already")
        records = self.store.records()[0]
        trials = {record.spec.trial_id() for record in records}
        keys = {record.key for record in records}
        stale = {
            trial.spec.label()
            for trial in missing
            if trial.spec.trial_id() in trials and trial.key not in keys
        }
        if stale:
            self.watcher.say(
                f"stale (source or machine changed), run again: {', '.join(sorted(stale))}"
            )

    def _check(self, specs: list[TrialSpec]) -> None:
        """Check each combination of workload, method and options once."""
        for spec in {spec.row_id(): spec for spec in specs}.values():
            self.watcher.start(f"checking {spec.label()}")
            result = self.launcher.check(spec)
            if result.status != Status.COMPLETED:
                raise BadInput(result.reason)

    def _run_group(
        self, group: list[Planned], missing: list[Planned], environment: dict[str, Any]
    ) -> None:
        """Time the group in turns, then run what else its members lack."""
        clocks = self._clocks(group)
        name = digest([clock.reading.get("measurements") for clock in clocks.values()])
        for position, trial in enumerate(group):
            clock = clocks[trial.key]
            facts: dict[str, Any] = {"round_group": name, "round_position": position}
            facts["timing"] = clock.reading.get("detail", {}).get(CLOCK, {})
            before = self.store.record(trial.key)
            timed = {CLOCK: clock}
            if trial in missing or before is None:
                self._finish(trial, timed, environment | facts)
            else:
                stored = stored_result(before, self.store.detail(trial.key))
                self._store(trial, timed | {"stored": stored}, before.environment | facts)
        self.store.unstage(_group_key(group))

    def _clocks(self, group: list[Planned]) -> dict[str, PassResult]:
        """Return every member's times: staged by an interrupted run, or taken now."""
        staged = self.store.staged(_group_key(group), CLOCK)
        if staged is not None:
            return {key: PassResult(**result) for key, result in staged.items()}

        def visit(spec: TrialSpec, turn: int) -> PassResult:
            least = rounds_of(group)
            self.watcher.start(f"timing {spec.label()}, round {turn + 1} of at least {least}")
            result = self.launcher.perform(CLOCK, spec)
            if turn < least:
                self.watcher.advance()
            return result

        clocks = time_in_turns(group, visit)
        results = {key: asdict(result) for key, result in clocks.items()}
        self.store.stage(_group_key(group), CLOCK, results)
        return clocks

    def _finish(
        self, trial: Planned, results: dict[str, PassResult], environment: dict[str, Any]
    ) -> None:
        """Run the passes a trial still lacks, until one fails, and store its record."""
        done = dict(results)
        for name in passes_of(trial.spec):
            if any(result.status != Status.COMPLETED for result in done.values()):
                break
            if name not in done:
                done[name] = self._pass(trial, name)
        self._store(trial, done, environment)

    def _pass(self, trial: Planned, name: str) -> PassResult:
        """Run a pass, or take it from what an interrupted run staged."""
        staged = self.store.staged(trial.key, name)
        self.watcher.start(f"{trial.spec.label()}, seed {trial.spec.seed}: {name}")
        if staged is not None:
            result = PassResult(**staged)
        else:
            file = str(self.store.checkpoint(trial.key))
            keeping = {"checkpoint": file, "checkpoint_seconds": self.checkpoint_seconds}
            result = self.launcher.perform(name, trial.spec, **keeping)
            self.store.stage(trial.key, name, asdict(result))
        self.watcher.advance()
        return result

    def _store(
        self, trial: Planned, results: dict[str, PassResult], environment: dict[str, Any]
    ) -> None:
        record, detail = make_record(trial.key, trial.spec, results, environment)
        self.store.save(record, detail)
        if record.outcome.status is not Status.COMPLETED:
            self.watcher.say(f"{record.label()}: {record.outcome.status} ({record.outcome.reason})")


def _groups(planned: list[Planned]) -> list[list[Planned]]:
    """Return the trials to time, those of one question together: they are timed in turns."""
    groups: dict[str, list[Planned]] = {}
    for trial in planned:
        if trial.spec.profile and trial.spec.profile.rounds:
            groups.setdefault(trial.spec.workload.question(), []).append(trial)
    return list(groups.values())


def _group_key(group: list[Planned]) -> str:
    return f"group-{digest([trial.key for trial in group])}"


def _file_name(method: str) -> str:
    """Return the method's name as it may stand in a file name."""
    return "".join(c if c.isalnum() or c in "+-_" else "_" for c in method)[-60:]
