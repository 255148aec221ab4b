"""Run the trials of a plan and store their records."""

from collections.abc import Sequence
from functools import partial

from msgspec.structs import replace

from bsrbench.harness.launch.forecasting.forecast_inputs import NOTHING_PREDICTED
from bsrbench.harness.launch.forecasting.progress_keeper import ProgressKeeper
from bsrbench.harness.launch.forecasting.training_share import TrainingShare
from bsrbench.harness.launch.forecasting.work_left import WorkLeft
from bsrbench.harness.launch.group_times import GroupTimes, all_staged
from bsrbench.harness.launch.planning.current_conditions import CurrentConditions
from bsrbench.harness.launch.planning.forecast import pass_key
from bsrbench.harness.launch.planning.forecast_lines import forecast_lines
from bsrbench.harness.launch.planning.preflight import Predictions, Preflight
from bsrbench.harness.launch.planning.resident_memory import MOST_UNPREDICTED
from bsrbench.harness.launch.planning.row_checks import RowChecks
from bsrbench.harness.launch.planning.run_outline import compiled_first, outline, timed_again
from bsrbench.harness.launch.planning.run_plan import Group, Plan, PlannedTrial
from bsrbench.harness.launch.processes.log_file import last_lines
from bsrbench.harness.launch.progress import Watcher
from bsrbench.harness.launch.run_settings import Launcher, RunSettings
from bsrbench.harness.launch.run_tally import Tally
from bsrbench.harness.launch.shared_device import SharedDevice
from bsrbench.harness.launch.side_by_side import CoreSets, require_cores, run_side_by_side
from bsrbench.harness.launch.staged_passes import kept_pass
from bsrbench.harness.launch.turns.group_timing import GroupTiming, RunProgress
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_environment import Circumstances, Environment, RanIn
from bsrbench.harness.records.trial_record import Status, TimesByKey
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import PassResult, plain
from bsrbench.harness.trial.record_assembly import make_record
from bsrbench.harness.trial.trial_passes import CLOCK, ESTIMATE, TRAINING, passes_of

# A trial, the results of its finished passes, its circumstances, and the times of stored trials.
Begun = tuple[PlannedTrial, dict[str, PassResult], Circumstances, TimesByKey | None]
STEPS_DONE = "steps-done"  # name of a file beside the logs, while a training runs
LAST_LINES = 5  # lines of a log that are shown


class OneRun:
    """Prepares and runs the missing trials of a plan.

    Args:
        launcher: runs the passes.
        store: stores the records.
        watcher: receives the progress.
        run_settings: the settings of the run.
        plan: the trials.
        environment: the environment that all records share.
        circumstances: the circumstances that all records share.
        present: the current conditions that affect numbers.
    """

    def __init__(
        self,
        launcher: Launcher,
        store: Store,
        watcher: Watcher,
        run_settings: RunSettings,
        plan: Plan,
        environment: Environment,
        circumstances: Circumstances,
        present: CurrentConditions,
    ) -> None:
        self._launcher, self._store = launcher, store
        self._watcher, self._run_settings = watcher, run_settings
        self._plan, self._present = plan, present
        self._environment, self._circumstances = environment, circumstances
        self._before = Preflight()
        self._progress = ProgressKeeper(Tally(trials=len(plan.missing)), watcher)
        self._shared = SharedDevice(None, {})

    def prepare(self) -> None:
        """Check the trials, then print what will be run and how long it will take.

        Raises:
            BadInput: the spec of a trial cannot work, or there are too few cores for the jobs.
            KeyboardInterrupt: the user has stopped the run.
        """
        absent = self._run_settings.absent
        specs = [trial.spec for trial in self._plan.missing.values()]
        if not absent:
            require_cores(self._run_settings.jobs, max(s.workload.threads for s in specs))
        checked, at_a_time = self._run_settings.checked, self._run_settings.checks_at_a_time
        checks = RowChecks(self._launcher.check, self._tell_or_stop, checked, at_a_time, absent)
        kernels = checks.look_for_mistakes(specs)
        predictions = self._predictions()
        if not self._run_settings.announces:
            self._before = Preflight(known=NOTHING_PREDICTED)
            if any(len(group.members()) > MOST_UNPREDICTED for group in self._plan.groups):
                before = predictions.predict(self._plan, checked.images)
                self._before.peaks, self._before.free_bytes = before.peaks, before.free_bytes
            self._expect()
            return
        planned = outline(specs)
        groups = (([trial.spec for trial in each.new], each.beside) for each in self._plan.groups)
        compiled = {} if absent else kernels  # those of the CPU, where it checked
        for line in [*planned, *timed_again(groups), *compiled_first(compiled)]:
            self._watcher.say(line)
        self._before = predictions.predict(self._plan, checked.images)
        self._shared = SharedDevice(self._before.free_bytes, self._before.peaks)
        for line in forecast_lines(
            self._before, self._plan, absent, self._store.folder, self._run_settings.compared_with
        ):
            self._watcher.say(line)
        self._expect()

    def _predictions(self) -> Predictions:
        settings = self._run_settings
        return Predictions(
            self._launcher.perform,
            self._store,
            self._tell_or_stop,
            settings.limits.memory_bytes,
            settings.limits.forced,
            settings.jobs,
            max(settings.jobs, settings.checks_at_a_time),
            settings.absent,
        )

    def _expect(self) -> None:
        """Note what the run consists of, and how long each piece is expected to take."""
        predicted = self._before.forecast(
            self._plan, self._run_settings.compared_with, self._run_settings.jobs
        )
        if predicted is not None:
            self._progress.tally.work = WorkLeft(dict(predicted.pieces))

    def do(self) -> None:
        """Run all missing trials.

        Raises:
            KeyboardInterrupt: the user has stopped the run.
        """
        doomed = self._before.doomed
        groups = [group for each in self._plan.groups if (group := each.without(doomed))]
        fits = [t for key, t in self._plan.missing.items() if key not in doomed]
        cpu_too = self._launcher.measures_cpu_time
        timed = sum(len(group.members()) * group.starts(cpu_too) for group in groups)
        other_passes = [name for trial in fits for name in passes_of(trial.spec) if name != CLOCK]
        self._progress.tally.begin(timed + len(other_passes))
        with self._progress.shown_regularly():
            self._do(groups)
        self._progress.tell("done")

    def _do(self, groups: Sequence[Group]) -> None:
        """Run the trials that are predicted to fit; store the outcome of the others."""
        doomed = self._before.doomed
        for key, result in doomed.items():
            unstarted = replace(self._circumstances, not_started=True)
            self._save(self._plan.missing[key], {ESTIMATE: result}, unstarted)
        for key, times in all_staged(self._store, self._watcher.say).items():
            self._finish_group(key, times)
        timing = self._timing()
        for group in groups:
            for part in timing.parts(group):
                self._finish_group(part.key(), timing.time(part))
        self._run_alone([trial for trial in self._plan.alone if trial.key not in doomed])

    def _timing(self) -> GroupTiming:
        progress = RunProgress(self._progress, self._watcher.say, self._stop_if_asked)
        memory = self._before.memory()
        return GroupTiming(
            *(self._launcher, self._store, self._run_settings, progress, memory),
            known=self._before.known,
        )

    def _tell_or_stop(self, what: str) -> None:
        self._stop_if_asked()
        self._progress.tell(what)

    def _stop_if_asked(self) -> None:
        if self._run_settings.stopping():
            raise KeyboardInterrupt

    def _finish_group(self, staged_under: str, times: GroupTimes) -> None:
        """Run the other passes of a timed group's new trials; then delete the stored times."""
        begun: list[Begun] = []
        for key in times.order:
            trial = self._plan.missing.get(key)
            if trial is not None and key in times.clocks and key not in self._before.doomed:
                timed = times.circumstances(key, self._circumstances)
                begun.append((trial, {CLOCK: times.clock(key)}, timed, times.beside))
        self._finish_all(begun)
        stored = (self._store.record(key) for key in times.clocks)
        if all(record and record.circumstances.round_group == times.name for record in stored):
            self._store.unstage(staged_under)

    def _run_alone(self, trials: list[PlannedTrial]) -> None:
        """Run the trials that are not timed, one by one or several at a time."""
        jobs = self._run_settings.jobs
        training = [trial for trial in trials if trial.spec.profile is None and jobs > 1]
        others = [trial for trial in trials if trial.spec.profile is not None or jobs == 1]
        self._finish_all([(trial, {}, self._circumstances, None) for trial in others])
        if training:
            cores = CoreSets(jobs, max(trial.spec.workload.threads for trial in training))
            run_side_by_side(jobs, [partial(self._train_beside, t, cores) for t in training])

    def _train_beside(self, trial: PlannedTrial, cores: CoreSets) -> None:
        """Run a training on cores of its own, beside others."""
        with cores.one() as own:
            jobs = self._run_settings.jobs
            shared = replace(self._circumstances, jobs=jobs, cores=tuple(own))
            self._finish(trial, {}, shared, own)

    def _finish_all(self, begun: list[Begun]) -> None:
        """Run the passes without a clock of trials, several at a time if there are several jobs."""
        jobs = self._run_settings.jobs
        noted = {"jobs": jobs} if jobs > 1 else {}
        tasks = [
            partial(self._finish, trial, results, replace(about, **noted), beside=beside)
            for trial, results, about, beside in begun
        ]
        run_side_by_side(jobs, tasks)

    def _finish(
        self,
        trial: PlannedTrial,
        results: dict[str, PassResult],
        circumstances: Circumstances,
        cores: Sequence[int] = (),
        beside: TimesByKey | None = None,
    ) -> None:
        """Run the remaining passes of a trial until one fails, and store its record."""
        done = dict(results)
        for name in passes_of(trial.spec):
            if any(result.status != Status.COMPLETED for result in done.values()):
                break
            if name not in done:
                done[name] = self._pass(trial, name, cores)
        self._save(trial, done, circumstances, beside)

    def _pass(self, trial: PlannedTrial, name: str, cores: Sequence[int]) -> PassResult:
        """Run a pass, or take its result from an interrupted run."""
        result = kept_pass(self._store, trial.key, name, self._watcher.say)
        if result is None:
            self._stop_if_asked()
        key, step_file = pass_key(trial.key, name), self._store.log(trial.key, STEPS_DONE)
        step_file.unlink(missing_ok=True)  # an interrupted run may have left it
        share = TrainingShare(trial.spec, step_file, self._before.known)
        self._progress.begin(key, share if name == TRAINING else None)
        self._progress.tell(f"{trial.spec.label()}, seed {trial.spec.seed}: {name}")
        if result is None:
            checkpoint = self._store.checkpoint(trial.key)
            perform = partial(
                self._launcher.perform,
                name,
                trial.spec,
                log=self._store.log(trial.key, name),
                on_cores=cores,
                checkpoint=CheckpointRequest(
                    checkpoint, self._run_settings.checkpoint_seconds, step_file
                ),
            )
            alone = trial.spec.profile is None or self._run_settings.jobs == 1
            result = perform() if alone else self._shared.perform(name, trial.spec, perform)
            if result.status == Status.CRASHED and self._run_settings.stopping():
                raise KeyboardInterrupt  # the pass was killed with the run
            self._store.stage(trial.key, name, plain(result))
        step_file.unlink(missing_ok=True)
        self._progress.advance(key)
        return result

    def _save(
        self,
        trial: PlannedTrial,
        results: dict[str, PassResult],
        circumstances: Circumstances,
        beside: TimesByKey | None = None,
    ) -> None:
        settings = self._present.settings(trial.spec.workload.device)
        ran_in = RanIn(
            replace(self._environment, settings=settings),
            replace(circumstances, suite_place=trial.place),
        )
        record, sidecar = make_record(trial.key, trial.spec, results, ran_in, beside)
        self._store.save(record, sidecar)
        completed = record.outcome.status is Status.COMPLETED
        own = [pass_key(trial.key, name) for name in passes_of(trial.spec)]
        self._progress.trial_done(completed=completed, keys=own)
        if not completed:
            self._watcher.say(
                f"{record.label()}: {record.outcome.status} ({record.outcome.reason})"
            )
            self._say_log(trial, list(results)[-1])

    def _say_log(self, trial: PlannedTrial, last_pass: str) -> None:
        """Show the last lines that a failed pass has printed."""
        path = self._store.log(trial.key, last_pass)
        lines = last_lines(path, LAST_LINES)
        for line in lines:
            self._watcher.say(f"  | {line}")
        if lines:
            self._watcher.say(f"  log: {path}")
