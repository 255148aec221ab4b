"""What a run is handed: where passes run, and how it is done."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bsrbench.harness.launch.planning.companions import ComparedWith, none_in_particular
from bsrbench.harness.records.trial_environment import NO_LIMITS, RecordedLimits
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import CheckResult, PassResult


class Launcher(Protocol):
    """Where a pass runs."""

    def check(self, spec: TrialSpec) -> CheckResult:
        """Return whether the trial can be started at all."""

    def settings(self, device: str) -> dict[str, str]:
        """Return the settings that decide numbers where passes run."""

    def perform(
        self,
        pass_name: str,
        spec: TrialSpec,
        *,
        log: Path | None = None,
        on_cores: Sequence[int] = (),
        checkpoint: CheckpointRequest | None = None,
    ) -> PassResult:
        """Run one pass and return how it ended; a training pass keeps a checkpoint."""


def nobody_asked() -> bool:
    """Return that nobody asked the run to end."""
    return False


@dataclass(frozen=True)
class RunSettings:
    """How a run is done, whatever its trials.

    Attributes:
        checkpoint_seconds: how much of a training pass a kill may lose.
        announces: say beforehand what will be done and how long that takes.
        jobs: trials that only train, at a time; each has cores of its own.
        order_seed: draws the order of trials.
        limits: what passes may take, and whether what is predicted not to fit runs all the same.
        compared_with: knows the rows that every other is compared with: stored ones are timed again
            beside new ones. Another process must be able to import it by name.
        trusted: files that the command names; others are run for no comparison's sake.
        stopping: whether somebody asked the run to end after the pass that runs.
    """

    checkpoint_seconds: float = 60.0
    announces: bool = True
    jobs: int = 1
    order_seed: int = 0
    limits: RecordedLimits = NO_LIMITS
    compared_with: ComparedWith = none_in_particular
    trusted: tuple[str, ...] = ()
    stopping: Callable[[], bool] = nobody_asked
