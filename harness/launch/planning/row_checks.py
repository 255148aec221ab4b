"""Check the rows of a run for mistakes: each row, model and data set once per command."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.side_by_side import run_side_by_side
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import CheckParts, CheckResult

MAKE_MODEL = {"model", "weights", "image_size", "classes", "data", "multitask"}
Check = Callable[[TrialSpec, CheckParts], CheckResult]


@dataclass
class CheckedRows:
    """What the runs of one command have checked; a later run checks only what is new.

    Attributes:
        rows: row ids.
        models: hashes of what models are made of.
        images: data set -> split -> number of images.
    """

    rows: set[str] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    images: dict[str, Mapping[str, int]] = field(default_factory=dict)

    def parts_to_check(self, spec: TrialSpec) -> CheckParts | None:
        """Return what must be checked for a trial; ``None`` if its row is known."""
        opens_data = spec.training is not None and spec.workload.data_name() not in self.images
        if spec.row_id() in self.rows and not opens_data:
            return None
        return CheckParts(_model_of(spec) not in self.models, opens_data)

    def add(self, spec: TrialSpec, parts: CheckParts, result: CheckResult) -> None:
        """Note that the row of a trial has passed its check."""
        self.rows.add(spec.row_id())
        self.models.add(_model_of(spec))
        if parts.data:
            self.images[spec.workload.data_name()] = result.images


@dataclass(frozen=True)
class RowChecks:
    """Checks the rows of a run that are not known.

    Rows whose model or data are new are checked one after the other: their checks may download
    and convert files. The others are checked several at a time.

    Attributes:
        check: looks for errors that would make every pass of a trial fail.
        tell: called with a description of the current work; raises ``KeyboardInterrupt`` if the
            run must stop.
        known: what earlier runs of the same command have checked; new rows are added.
        at_a_time: number of checks at the same time.
        absent: devices that this machine lacks. Their trials are checked on the CPU.
    """

    check: Check
    tell: Callable[[str], None]
    known: CheckedRows
    at_a_time: int = 1
    absent: frozenset[str] = frozenset()

    def look_for_mistakes(self, specs: Iterable[TrialSpec]) -> dict[str, tuple[str, ...]]:
        """Check each unknown row once.

        Returns:
            label -> the kernels of this row that are not in the cache yet; rows without such
            kernels are not included.

        Raises:
            BadInput: the spec of a trial cannot work; the message is that of the first such row.
        """
        results: dict[str, tuple[TrialSpec, CheckParts, CheckResult]] = {}

        def check(row: str, spec: TrialSpec, parts: CheckParts) -> None:
            self.tell(f"checking {spec.label()}")
            results[row] = (spec, parts, self.check(self._checked_here(spec), parts))

        later = {}
        for row, spec in {spec.row_id(): spec for spec in specs}.items():
            parts = self.known.parts_to_check(spec)
            if parts is None:
                continue
            if parts.model or parts.data:
                check(row, spec, parts)
                self._keep(*results[row])
            else:
                later[row] = partial(check, row, spec, parts)
        run_side_by_side(self.at_a_time, list(later.values()))
        for row in later:
            self._keep(*results[row])
        checked = [(spec.label(), result) for spec, _, result in results.values()]
        return {label: r.kernels_to_compile for label, r in checked if r.kernels_to_compile}

    def _keep(self, spec: TrialSpec, parts: CheckParts, result: CheckResult) -> None:
        """Note a check that has passed.

        Raises:
            BadInput: it has not passed.
        """
        if result.status != Status.COMPLETED:
            self.tell("stopping")  # a second Ctrl-C ends the check, too
            raise BadInput(result.reason)
        self.known.add(spec, parts, result)

    def _checked_here(self, spec: TrialSpec) -> TrialSpec:
        """Return the trial, on the CPU if its device is not here."""
        if spec.workload.device not in self.absent:
            return spec
        return spec.model_copy(
            update={"workload": spec.workload.model_copy(update={"device": "cpu"})}
        )


def _model_of(spec: TrialSpec) -> str:
    """Return a hash of what a model is made of; the number of classes can come from the data."""
    return digest(spec.workload.model_dump(mode="json", include=MAKE_MODEL))
