"""Predict the trials of a run before anything is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from bsrbench.harness.launch.forecasting.forecast_inputs import (
    ASSUMED_SPEED,
    Cost,
    ForecastInputs,
)
from bsrbench.harness.launch.planning.companions import ComparedWith
from bsrbench.harness.launch.planning.forecast import Forecast, forecast
from bsrbench.harness.launch.planning.resident_memory import (
    ResidentMemory,
    keys_compared_with,
)
from bsrbench.harness.launch.planning.run_plan import Plan, PlannedTrial
from bsrbench.harness.launch.side_by_side import run_side_by_side
from bsrbench.harness.launch.staged_passes import kept_pass
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult, plain
from bsrbench.harness.trial.trial_passes import CALIBRATION, ESTIMATE, SPEED, passes_of

GIB = 2**30
CALIBRATION_STEP_SECONDS = 5.0  # the forecast does not wait for longer steps
Perform = Callable[..., PassResult]


@dataclass
class Preflight:
    """The information about a run that is known before it begins.

    Attributes:
        known: the inputs of the forecast; ``None`` if the speed of the device is not known.
        doomed: key -> outcome, for trials that are predicted not to fit.
        why_unknown: why the speed of the device could not be measured.
        peaks: row id -> predicted peak in bytes.
        free_bytes: free memory of the device; ``None`` if it is not known.
    """

    known: ForecastInputs | None = None
    doomed: dict[str, PassResult] = field(default_factory=dict)
    why_unknown: str = ""
    peaks: Mapping[str, int] = field(default_factory=dict)
    free_bytes: int | None = None

    def memory(self) -> ResidentMemory:
        """Return what is known of the memory of rows that are alive together."""
        costs = {} if self.known is None else self.known.costs
        kept = {row: cost.kept_optimizer_bytes() for row, cost in costs.items()}
        peaks = {row: peak + kept.get(row, 0) for row, peak in self.peaks.items()}
        return ResidentMemory(peaks, self.free_bytes)

    def forecast(self, plan: Plan, compared_with: ComparedWith, jobs: int = 1) -> Forecast | None:
        """Return the forecast of the run; ``None`` if it cannot be made.

        Args:
            plan: the trials.
            compared_with: returns the trials that every other trial of a group is compared with.
            jobs: number of passes without a clock that run at the same time.
        """
        if self.known is None:
            return None
        missing = [trial for key, trial in plan.missing.items() if key not in self.doomed]
        left = [left for group in plan.groups if (left := group.without(self.doomed))]
        groups = [
            part
            for group in left
            for part in self.memory().planned(
                group, keys_compared_with(group.members(), compared_with)
            )
        ]
        return forecast(groups, missing, self.known, jobs)


@dataclass(frozen=True)
class Predictions:
    """Predicts trials before they run.

    Attributes:
        perform: runs a pass.
        store: stores estimates until their pass is due.
        tell: called with a description of the current work; raises ``KeyboardInterrupt`` if the
            run must stop.
        memory_bytes: memory limit of a pass's process; ``None`` means that only the
            device limits it.
        force: also run trials that are predicted not to fit.
        jobs: number of trainings that share the device's memory.
        at_a_time: number of predictions at the same time.
        absent: devices that this machine lacks.
    """

    perform: Perform
    store: Store
    tell: Callable[[str], None]
    memory_bytes: int | None = None
    force: bool = False
    jobs: int = 1
    at_a_time: int = 1
    absent: frozenset[str] = frozenset()

    def predict(self, plan: Plan, images: Mapping[str, Mapping[str, int]]) -> Preflight:
        """Predict every row, measure the device's speed, and find the trials that do not fit."""
        estimates = self._estimates(plan)
        costs = self._stored_costs(plan)
        for row, (_, result) in estimates.items():
            read = result.readings()
            cost = Cost.of({**(read.detail.estimated or {}), **read.measurements})
            if cost is not None:
                costs[row] = cost
        peaks = _peaks(plan, estimates)
        specs = [trial.spec for trial in plan.missing.values()]
        if all(spec.profile and spec.profile.only_predict for spec in specs):
            # The predictions are the results, and only have to be stored.
            return Preflight(peaks=peaks)
        if self.absent:
            return Preflight(ForecastInputs(ASSUMED_SPEED, costs, images, True), peaks=peaks)
        self.tell("measuring the device's speed")
        tried = self.perform(SPEED, specs[0])
        speed = tried.readings().speed
        if speed is None:
            return Preflight(why_unknown=tried.reason, peaks=peaks)
        known = ForecastInputs(speed.flop_per_second, costs, images)
        known = self._calibrated(known, plan, peaks, speed.free_bytes)
        preflight = Preflight(known, peaks=peaks, free_bytes=speed.free_bytes)
        if not self.force:
            preflight.doomed = self._doomed(plan, estimates, speed.free_bytes)
        return preflight

    def _calibrated(
        self, known: ForecastInputs, plan: Plan, peaks: Mapping[str, int], free: int | None
    ) -> ForecastInputs:
        """Run some steps of the row with the longest step, if they are short and surely fit."""
        trials = []
        for spec in (trial.spec for trial in plan.missing.values()):
            cost, peak = known.costs.get(spec.row_id()), peaks.get(spec.row_id())
            if cost is None or peak is None:
                continue
            if known.cycle_seconds(cost) > CALIBRATION_STEP_SECONDS:
                continue
            if 2 * peak <= (_least(free, self.memory_bytes) or 0):
                trials.append((cost.step_flop, spec.training is not None, spec, cost))
        if not trials:
            return known
        *_, spec, cost = max(trials, key=lambda trial: trial[:2])
        tried = self.perform(CALIBRATION, spec.uncompiled())
        read = tried.readings().calibration
        if read is None:  # a pass of the trial will say why
            return known
        return known.calibrated(read, cost, tried.seconds or 0.0)

    def _doomed(
        self, plan: Plan, estimates: dict[str, tuple[PlannedTrial, PassResult]], free: int | None
    ) -> dict[str, PassResult]:
        """Return the outcome of every trial whose predicted peak exceeds the available memory."""
        outcomes = {}
        trainings = sum(trial.spec.profile is None for trial in plan.missing.values())
        for key, trial in plan.missing.items():
            if trial.spec.row_id() not in estimates or passes_of(trial.spec) == [ESTIMATE]:
                continue
            _, result = estimates[trial.spec.row_id()]
            estimated = result.readings().measurements
            peak = estimated.get("peak_estimated_allocated_bytes")
            if peak is None:
                peak = estimated.get("peak_estimated_bytes")
            sharing = min(self.jobs, trainings) if trial.spec.profile is None else 1
            available = _least(None if free is None else free // sharing, self.memory_bytes)
            if not isinstance(peak, int) or available is None:
                continue
            if peak <= available:
                continue
            share = f" for each of {sharing} jobs" if sharing > 1 else ""
            reason = (
                f"a peak of {peak / GIB:.2f} GiB is predicted, but {available / GIB:.2f} GiB are "
                f"available{share}; --force runs it anyway"
            )
            outcomes[key] = replace(result, status=Status.OUT_OF_MEMORY, reason=reason)
        return outcomes

    def _stored_costs(self, plan: Plan) -> dict[str, Cost]:
        costs: dict[str, Cost] = {}
        again = [trial for group in plan.groups for trial in group.companions()]
        for trial in [*plan.trials, *again]:
            record = None if trial.key in plan.missing else self.store.record(trial.key)
            cost = None if record is None else Cost.of(record.measurements)
            if cost is not None:
                costs[trial.spec.row_id()] = cost
        return costs

    def _estimates(self, plan: Plan) -> dict[str, tuple[PlannedTrial, PassResult]]:
        """Predict each missing row once, by the first of its trials."""
        due: dict[str, PlannedTrial] = {}
        stored = {t.spec.row_id() for t in plan.trials if t.key not in plan.missing}
        for trial in plan.missing.values():
            row = trial.spec.row_id()
            if row not in stored or ESTIMATE in passes_of(trial.spec):
                due.setdefault(row, trial)
        estimates: dict[str, tuple[PlannedTrial, PassResult]] = {}

        def estimate(row: str, trial: PlannedTrial) -> None:
            self.tell(f"predicting {trial.spec.label()}")
            estimates[row] = (trial, self._estimate(trial))

        run_side_by_side(self.at_a_time, [partial(estimate, *item) for item in due.items()])
        return {row: estimates[row] for row in due}

    def _estimate(self, trial: PlannedTrial) -> PassResult:
        """Predict a trial; if the prediction is one of its passes, store the result for it."""
        kept = kept_pass(self.store, trial.key, ESTIMATE, self.tell)
        if kept is not None:
            return kept
        result = self.perform(ESTIMATE, trial.spec)
        if ESTIMATE in passes_of(trial.spec):
            self.store.stage(trial.key, ESTIMATE, plain(result))
        return result


def _peaks(plan: Plan, estimates: Mapping[str, tuple[PlannedTrial, PassResult]]) -> dict[str, int]:
    """Return row id -> predicted peak in bytes, of the rows that could be predicted.

    Stored rows that are timed again are included.
    """
    again = [record for group in plan.groups for record in group.beside.records]
    name = "peak_estimated_bytes"
    peaks: dict[str, object] = {r.spec.row_id(): r.measurements.get(name) for r in again}
    for row, (_, result) in estimates.items():
        peaks[row] = result.readings().measurements.get(name)
    return {row: peak for row, peak in peaks.items() if isinstance(peak, int)}


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)
