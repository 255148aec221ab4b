"""Run passes in this very process: for tests, which want it fast and debuggable."""

from collections.abc import Sequence
from pathlib import Path

from bsrbench.harness.devices import numeric_settings
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import CheckResult, PassResult
from bsrbench.harness.trial.trial_passes import check, perform, timed


class InlineLauncher:
    """Runs passes here. What one leaves behind, the next one finds.

    Args:
        load: turns method names into methods.
    """

    def __init__(self, load: Loader) -> None:
        self._load = load

    def check(self, spec: TrialSpec) -> CheckResult:
        """Return whether the trial can be started at all."""
        return check(spec, self._load)

    def settings(self, device: str) -> dict[str, str]:
        """Return the settings that decide numbers in this process."""
        return numeric_settings.settings(device)

    def perform(
        self,
        pass_name: str,
        spec: TrialSpec,
        *,
        log: Path | None = None,  # noqa: ARG002 - what is printed goes where it goes
        on_cores: Sequence[int] = (),  # noqa: ARG002 - the tests' own process stays unbound
        checkpoint: CheckpointRequest | None = None,
    ) -> PassResult:
        """Run one pass of a trial and return how it ended."""
        return timed(lambda: perform(pass_name, spec, checkpoint, self._load))
