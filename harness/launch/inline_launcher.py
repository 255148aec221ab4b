"""Run passes in this process; used by tests, because it is fast and easy to debug."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bsrbench.harness.devices import numeric_settings
from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.turns.resident import Resident
from bsrbench.harness.launch.turns.whole_passes import WholePasses
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import ALL_PARTS, CheckParts, CheckResult, Kind, PassResult
from bsrbench.harness.trial.trial_passes import (
    CLOCK,
    BatchSearchResult,
    check,
    perform,
    search_batch,
    timed,
)


class InlineLauncher:
    """Runs passes in this process. A pass is not isolated from the ones before it.

    Args:
        load: returns the method of a name.

    Attributes:
        measures_cpu_time: no.
    """

    measures_cpu_time = False

    def __init__(self, load: Loader) -> None:
        self._load = load

    def check(self, spec: TrialSpec, parts: CheckParts = ALL_PARTS) -> CheckResult:
        """Check for errors that would make every pass of the trial fail."""
        return check(spec, self._load, parts)

    def ask(self, function: Callable[[], Kind], kind: type[Kind]) -> Kind:  # noqa: ARG002 - as in the local launcher
        """Run a function in this process and return its answer."""
        return function()

    def settings(self, device: str) -> dict[str, str]:
        """Return the settings of this process that affect numbers."""
        return numeric_settings.settings(device)

    def search(self, spec: TrialSpec, limit: int) -> BatchSearchResult:
        """Search for the largest batch that fits by prediction."""
        return search_batch(spec, limit, self._load)

    def perform(
        self,
        pass_name: str,
        spec: TrialSpec,
        *,
        log: Path | None = None,  # noqa: ARG002 - output is not redirected here
        on_cores: Sequence[int] = (),  # noqa: ARG002 - the tests' own process stays unbound
        checkpoint: CheckpointRequest | None = None,
    ) -> PassResult:
        """Run one pass of a trial and return how it ended."""
        return timed(lambda: perform(pass_name, spec, checkpoint, self._load))

    def resident(self, spec: TrialSpec, *, log: Path | None = None) -> Resident:
        """Return a clock pass that runs as a whole, not in turns with others."""
        return WholePasses(lambda: self.perform(CLOCK, spec, log=log))

    def sleeping_resident(
        self,
        spec: TrialSpec,
        *,
        log: Path | None = None,  # noqa: ARG002 - as in the local launcher
    ) -> Resident:
        """Refuse, because the threads of this process may spin.

        Raises:
            BadInput: always.
        """
        raise BadInput(
            f"the CPU time of {spec.label()} needs a process of its own: use the local launcher"
        )
