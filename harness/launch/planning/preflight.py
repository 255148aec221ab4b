"""Check and predict the trials of a run before anything is measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.planning.companions import ComparedWith
from bsrbench.harness.launch.planning.forecast import Cost, Forecast, ForecastInputs, forecast
from bsrbench.harness.launch.planning.resident_memory import (
    ResidentMemory,
    keys_compared_with,
)
from bsrbench.harness.launch.planning.run_plan import Plan, PlannedTrial
from bsrbench.harness.launch.staged_passes import kept_pass
from bsrbench.harness.records.store import Store
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import CheckResult, PassResult, plain
from bsrbench.harness.trial.trial_passes import ESTIMATE, SPEED, passes_of

GIB = 2**30
Perform = Callable[..., PassResult]


@dataclass
class Preflight:
    """The information about a run that is known before it begins.

    Attributes:
        known: the inputs of the forecast; ``None`` if the speed of the device is not known.
        doomed: key -> outcome, for trials that are predicted not to fit.
        why_unknown: why the speed of the device could not be measured.
        memory: the predicted memory of the rows, and the free memory of the device.
    """

    known: ForecastInputs | None = None
    doomed: dict[str, PassResult] = field(default_factory=dict)
    why_unknown: str = ""
    memory: ResidentMemory = field(default_factory=ResidentMemory)

    def forecast(self, plan: Plan, compared_with: ComparedWith) -> Forecast | None:
        """Return the forecast of the run; ``None`` if it cannot be made."""
        if self.known is None:
            return None
        missing = [t.spec for key, t in plan.missing.items() if key not in self.doomed]
        left = [left for group in plan.groups if (left := group.without(self.doomed))]
        groups = [
            part
            for group in left
            for part in self.memory.planned(
                group, keys_compared_with(group.members(), compared_with)
            )
        ]
        return forecast(groups, missing, self.known)


@dataclass
class Found:
    """What the checks of the rows have found.

    Attributes:
        images: data set -> split -> number of images.
        kernels_to_compile: label -> the kernels of this row that are not in the cache yet; rows
            without such kernels are not included.
    """

    images: dict[str, Mapping[str, int]] = field(default_factory=dict)
    kernels_to_compile: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class PreflightChecks:
    """Checks and predicts trials before they run.

    Attributes:
        check: looks for errors that would make every pass of a trial fail.
        perform: runs a pass.
        store: stores estimates until their pass is due.
        tell: called with a description of the current work; raises ``KeyboardInterrupt`` if the
            run must stop.
        memory_bytes: memory limit of a pass's process; ``None`` means that only the
            device limits it.
        force: also run trials that are predicted not to fit.
        jobs: number of trainings that share the device's memory.
    """

    check: Callable[[TrialSpec], CheckResult]
    perform: Perform
    store: Store
    tell: Callable[[str], None]
    memory_bytes: int | None = None
    force: bool = False
    jobs: int = 1

    def look_for_mistakes(self, plan: Plan) -> Found:
        """Check each row once; return its data set's number of images and its kernels to compile.

        Raises:
            BadInput: the spec of a trial cannot work.
        """
        found = Found()
        rows = {trial.spec.row_id(): trial.spec for trial in plan.missing.values()}
        for spec in rows.values():
            self.tell(f"checking {spec.label()}")
            result = self.check(spec)
            if result.status != Status.COMPLETED:
                self.tell("stopping")  # a second Ctrl-C ends the check, too
                raise BadInput(result.reason)
            found.images[spec.workload.data_name()] = result.images
            if result.kernels_to_compile:
                found.kernels_to_compile[spec.label()] = result.kernels_to_compile
        return found

    def predict(self, plan: Plan, images: Mapping[str, Mapping[str, int]]) -> Preflight:
        """Predict every row, measure the device's speed, and find the trials that do not fit."""
        estimates = self._estimates(plan)
        costs = self._stored_costs(plan)
        for row, (_, result) in estimates.items():
            read = result.readings()
            cost = Cost.of({**(read.detail.estimated or {}), **read.measurements})
            if cost is not None:
                costs[row] = cost
        specs = [trial.spec for trial in plan.missing.values()]
        if all(spec.profile and spec.profile.only_predict for spec in specs):
            return Preflight()  # the predictions are the results, and only have to be stored
        self.tell("measuring the device's speed")
        tried = self.perform(SPEED, specs[0])
        speed = tried.readings().speed
        if speed is None:
            return Preflight(why_unknown=tried.reason)
        peaks = self._peaks(plan, {row: result for row, (_, result) in estimates.items()})
        memory = ResidentMemory(peaks, speed.free_bytes)
        known = ForecastInputs(speed.flop_per_second, costs, images)
        preflight = Preflight(known, memory=memory)
        if not self.force:
            preflight.doomed = self._doomed(plan, estimates, speed.free_bytes)
        return preflight

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
            peak = result.readings().measurements.get("peak_estimated_bytes")
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

    def _peaks(self, plan: Plan, estimates: Mapping[str, PassResult]) -> dict[str, int]:
        """Return the predicted peak of a step in bytes, by row."""
        values = {row: result.readings().measurements for row, result in estimates.items()}
        again = [record for group in plan.groups for record in group.beside.records]
        stored = {record.spec.row_id(): record.measurements for record in again}
        peaks = {
            row: measured.get("peak_estimated_bytes") for row, measured in (stored | values).items()
        }
        return {row: peak for row, peak in peaks.items() if isinstance(peak, int)}

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
        estimates: dict[str, tuple[PlannedTrial, PassResult]] = {}
        stored = {t.spec.row_id() for t in plan.trials if t.key not in plan.missing}
        for trial in plan.missing.values():
            row = trial.spec.row_id()
            if row not in estimates and (row not in stored or ESTIMATE in passes_of(trial.spec)):
                self.tell(f"predicting {trial.spec.label()}")
                estimates[row] = (trial, self._estimate(trial))
        return estimates

    def _estimate(self, trial: PlannedTrial) -> PassResult:
        """Predict a trial; if the prediction is one of its passes, store the result for it."""
        kept = kept_pass(self.store, trial.key, ESTIMATE, self.tell)
        if kept is not None:
            return kept
        result = self.perform(ESTIMATE, trial.spec)
        if ESTIMATE in passes_of(trial.spec):
            self.store.stage(trial.key, ESTIMATE, plain(result))
        return result


def _least(*sizes: int | None) -> int | None:
    return min((size for size in sizes if size is not None), default=None)
