"""Run the trials of a suite that are missing or stale, and store their records."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.group_times import drop_staged
from bsrbench.harness.launch.plan_execution import OneRun
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.planning.run_plan import Plan, Planner
from bsrbench.harness.launch.planning.stale_trials import stale
from bsrbench.harness.launch.progress import Watcher
from bsrbench.harness.launch.run_settings import Launcher, RunSettings
from bsrbench.harness.records.environment import describe_run
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec


@dataclass(frozen=True)
class Runner:
    """What a run needs.

    Attributes:
        launcher: where a pass runs.
        store: where records go.
        fingerprint: method name -> hash of its source.
        watcher: who is told.
        run_settings: how it is done.
    """

    launcher: Launcher
    store: Store
    fingerprint: Callable[[str], str]
    watcher: Watcher
    run_settings: RunSettings = field(default_factory=RunSettings)

    def run(
        self, specs: Iterable[TrialSpec], *, again: bool = False, dry: bool = False
    ) -> list[TrialRecord]:
        """Run what has no record yet, and return the records of all trials.

        First it says what it will do, and how long that will take. Profile trials are timed
        before anything else, in turns with each other and with the stored trials that every row
        is compared with; the records of those stay as they are, and the new ones hold their times.

        Args:
            specs: the trials.
            again: run those that have a record, too.
            dry: only say what would be done.

        Raises:
            BadInput: a trial can never work as it is written; nothing has been run then.
            KeyboardInterrupt: the run was asked to stop; everything done is stored.
        """
        self.store.open_for_writing()
        facts = {"limits": self._limits(), "order_seed": self.run_settings.order_seed}
        environment = describe_run() | facts
        present = CurrentConditions.asked(self._settings)
        plan = self._planner(environment["machine_id"], present).plan(specs, again=again)
        self._say_what_is_there(plan, present)
        if plan.missing:
            if again:
                self._drop_what_is_staged(plan)
            run = OneRun(
                self.launcher,
                self.store,
                self.watcher,
                self.run_settings,
                plan,
                environment,
                present,
            )
            run.prepare()
            if not dry:
                run.do()
        records = [self.store.record(trial.key) for trial in plan.trials]
        return [record for record in records if record is not None]

    def _limits(self) -> dict[str, Any]:
        return self.run_settings.limits | {"forced": self.run_settings.force}

    def _planner(self, machine_id: str, present: CurrentConditions) -> Planner:
        return Planner(
            self.store,
            self.fingerprint,
            machine_id,
            self._limits(),
            self.run_settings.order_seed,
            self.run_settings.compared_with,
            self.run_settings.trusted,
            present,
        )

    def _drop_what_is_staged(self, plan: Plan) -> None:
        """Drop what an interrupted run has kept of the trials that are to be run again."""
        drop_staged(self.store, plan.missing)
        for key in plan.missing:
            self.store.unstage(key)

    def _settings(self, device: str) -> dict[str, str]:
        """Return the settings of the processes that passes run in.

        Raises:
            KeyboardInterrupt: what was to answer ended with the run.
        """
        try:
            return self.launcher.settings(device)
        except BadInput:
            if self.run_settings.stopping():  # a second Ctrl-C ends what was asked
                raise KeyboardInterrupt from None
            raise

    def _say_what_is_there(self, plan: Plan, present: CurrentConditions) -> None:
        there = len(plan.trials) - len(plan.missing)
        if there:
            self.watcher.say(f"{there} of {len(plan.trials)} trials are stored already")
        missing = [(t.parts, t.spec) for t in plan.missing.values() if t.parts is not None]
        for line in stale(missing, self.store.records()[0], present):
            self.watcher.say(line)
