"""Run the trials of a suite that are missing or stale, and store their records."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import msgspec

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.group_times import drop_staged
from bsrbench.harness.launch.plan_execution import OneRun
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.planning.run_plan import Plan, Planner
from bsrbench.harness.launch.planning.stale_trials import stale
from bsrbench.harness.launch.progress import Watcher
from bsrbench.harness.launch.run_settings import Launcher, RunSettings
from bsrbench.harness.records.environment import circumstances_of_run, describe_run
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.trial_spec import TrialSpec


@dataclass(frozen=True)
class Runner:
    """Runs the missing trials of a suite.

    Attributes:
        launcher: runs the passes.
        store: stores the records.
        fingerprint: method name -> hash of its source.
        watcher: receives the progress.
        run_settings: the settings of the run.
    """

    launcher: Launcher
    store: Store
    fingerprint: Callable[[str], str]
    watcher: Watcher
    run_settings: RunSettings = field(default_factory=RunSettings)

    def run(
        self, specs: Iterable[TrialSpec], *, again: bool = False, dry: bool = False
    ) -> list[TrialRecord]:
        """Run the trials that have no record, and return the records of all trials.

        The run first prints what it will do and how long that will take. It then times the profile
        trials, in turns with each other and with the stored trials that every row is compared with.
        The records of stored trials do not change; their new times go into the new records.

        Args:
            specs: the trials.
            again: also run trials that have a record.
            dry: only print what would be done.

        Raises:
            BadInput: the spec of a trial cannot work; nothing has been run.
            KeyboardInterrupt: the user has stopped the run; everything measured is stored.
        """
        self.store.open_for_writing()
        environment = describe_run()
        circumstances = msgspec.structs.replace(
            circumstances_of_run(),
            limits=self.run_settings.limits,
            order_seed=self.run_settings.order_seed,
        )
        present = CurrentConditions.asked(self._settings)
        plan = self._planner(environment.machine_id, present).plan(specs, again=again)
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
                circumstances,
                present,
            )
            run.prepare()
            if not dry:
                run.do()
        records = [self.store.record(trial.key) for trial in plan.trials]
        return [record for record in records if record is not None]

    def _planner(self, machine_id: str, present: CurrentConditions) -> Planner:
        return Planner(
            self.store,
            self.fingerprint,
            machine_id,
            self.run_settings.limits,
            self.run_settings.order_seed,
            self.run_settings.compared_with,
            self.run_settings.trusted,
            present,
        )

    def _drop_what_is_staged(self, plan: Plan) -> None:
        """Delete the passes that an interrupted run has stored for the trials to run again."""
        drop_staged(self.store, plan.missing)
        for key in plan.missing:
            self.store.unstage(key)

    def _settings(self, device: str) -> dict[str, str]:
        """Return the settings of the processes in which passes run.

        Raises:
            KeyboardInterrupt: the user has stopped the run.
        """
        try:
            return self.launcher.settings(device)
        except BadInput:
            if self.run_settings.stopping():  # a second Ctrl-C has killed the process
                raise KeyboardInterrupt from None
            raise

    def _say_what_is_there(self, plan: Plan, present: CurrentConditions) -> None:
        there = len(plan.trials) - len(plan.missing)
        if there:
            self.watcher.say(f"{there} of {len(plan.trials)} trials are already stored")
        missing = [(t.parts, t.spec) for t in plan.missing.values() if t.parts is not None]
        for line in stale(missing, self.store.records()[0], present):
            self.watcher.say(line)
