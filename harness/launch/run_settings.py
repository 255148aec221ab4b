"""The interface of a launcher, and the settings of a run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bsrbench.harness.launch.planning.companions import ComparedWith, none_in_particular
from bsrbench.harness.launch.planning.row_checks import CheckedRows
from bsrbench.harness.launch.turns.resident import Resident
from bsrbench.harness.records.trial_environment import NO_LIMITS, RecordedLimits
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import ALL_PARTS, CheckParts, CheckResult, PassResult


class Launcher(Protocol):
    """Runs passes, in this process or in others."""

    def check(self, spec: TrialSpec, parts: CheckParts = ALL_PARTS) -> CheckResult:
        """Check for errors that would make every pass of the trial fail."""

    def settings(self, device: str) -> dict[str, str]:
        """Return the settings that affect numbers, in the process where passes run."""

    def perform(
        self,
        pass_name: str,
        spec: TrialSpec,
        *,
        log: Path | None = None,
        on_cores: Sequence[int] = (),
        checkpoint: CheckpointRequest | None = None,
    ) -> PassResult:
        """Run one pass and return how it ended; a training pass saves a checkpoint."""

    def resident(self, spec: TrialSpec, *, log: Path | None = None) -> Resident:
        """Start a clock pass that sleeps until its turns; it has been built and warmed up.

        Raises:
            ServerLost: it cannot be started, because its fork server was killed.
        """

    @property
    def measures_cpu_time(self) -> bool:
        """Whether it has processes for it, whose threads do not spin."""

    def sleeping_resident(self, spec: TrialSpec, *, log: Path | None = None) -> Resident:
        """Start a pass of CPU time in the same way, in a process whose threads do not spin.

        Raises:
            ServerLost: it cannot be started, because its fork server was killed.
        """


def nobody_asked() -> bool:
    """Return ``False``: the run is not stopped."""
    return False


@dataclass(frozen=True)
class RunSettings:
    """Settings of a run that do not depend on its trials.

    Attributes:
        checkpoint_seconds: time between checkpoints of a training; a killed training loses at
            most the work of this time.
        announces: print what will be done, and how long it takes, before starting.
        jobs: number of trainings that run at the same time; each has its own cores.
        order_seed: seed of the order of the trials.
        limits: limits of each pass, and whether trials run that are predicted not to fit.
        compared_with: chooses the rows that every other row is compared with. If such a row is
            stored, it is timed again in turns with new rows. Other processes must be able to import
            it by name.
        trusted: method files that the user allows; other files are not timed again.
        absent: devices of the trials that this machine lacks. Then the run can only be planned.
        stopping: returns whether the user has asked the run to stop after the current pass.
        checks_at_a_time: number of checks and predictions that run at the same time, before
            anything is timed.
        checked: what earlier runs of the same command have checked.
    """

    checkpoint_seconds: float = 60.0
    announces: bool = True
    jobs: int = 1
    order_seed: int = 0
    limits: RecordedLimits = NO_LIMITS
    compared_with: ComparedWith = none_in_particular
    trusted: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    stopping: Callable[[], bool] = nobody_asked
    checks_at_a_time: int = 1
    checked: CheckedRows = field(default_factory=CheckedRows)
