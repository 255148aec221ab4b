"""Run each pass in a separate clean process, forked from a server that has torch loaded."""

import multiprocessing
import secrets
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from msgspec import structs

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes.cores import choose
from bsrbench.harness.launch.processes.fork_server import Server, server, server_of_sleepers
from bsrbench.harness.launch.processes.log_file import log_file
from bsrbench.harness.launch.processes.pass_answers import wait_for
from bsrbench.harness.launch.processes.pass_death import death, kernel_kills, require_bounded
from bsrbench.harness.launch.processes.pass_limits import Limits
from bsrbench.harness.launch.processes.pass_process import PassSettings, present_settings, run
from bsrbench.harness.launch.processes.resident_process import ResidentProcess
from bsrbench.harness.launch.turns.resident import Resident, ServerLost
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.resume import CheckpointRequest
from bsrbench.harness.trial.pass_result import (
    ALL_PARTS,
    CheckParts,
    CheckResult,
    Kind,
    PassResult,
    SettingsResult,
)
from bsrbench.harness.trial.trial_passes import (
    CALIBRATION,
    CLOCK,
    CPU_TIME,
    ESTIMATE,
    SPEED,
    BatchSearchResult,
    CostsResult,
    check,
    perform,
    predict_costs,
    read_settings,
    search_batch,
    timed,
)
from bsrbench.harness.workload.images.workers import requested_workers

COMPILED_CODE = "TORCHINDUCTOR_CACHE_DIR"
# Time limit of checks and predictions. A check may download weights; predicting the largest model
# takes seconds.
BEFOREHAND_SECONDS, CALIBRATION_SECONDS = 600.0, 30.0
NONE = Limits()
MORE = " (a longer --timeout allows more time)"
ENDED = "the process was killed because the run was stopped"
LOST = "the fork server of this process was killed twice in a row"


class LocalLauncher:
    """Runs passes on this machine, one at a time; this process sleeps while a pass runs.

    Args:
        load: returns the method of a name; other processes must be able to import it by name.
        limits: time and memory limits of a pass.
    """

    measures_cpu_time = True

    def __init__(self, load: Loader, limits: Limits = NONE) -> None:
        self._load = load
        self._limits = limits
        self._ended = False
        self._servers: set[Server] = set()  # beside the main one
        self._context = multiprocessing.get_context("forkserver")

    def check(self, spec: TrialSpec, parts: CheckParts = ALL_PARTS) -> CheckResult:
        """Check for errors that would make every pass of the trial fail, and fetch its weights."""
        beforehand = PassSettings(limits=self._beforehand())
        result = self._call(partial(check, spec, self._load, parts), CheckResult, beforehand)
        if result.status is Status.TIMEOUT:
            return structs.replace(result, reason=f"checking {spec.label()}: {result.reason}{MORE}")
        return result

    def ask(self, function: Callable[[], Kind], kind: type[Kind]) -> Kind:
        """Run a function in a process of its own, and return its answer.

        Args:
            function: the function; other processes must be able to import it by name.
            kind: the type of its answer.
        """
        return self._call(function, kind, PassSettings(limits=self._beforehand()))

    def settings(self, device: str) -> dict[str, str]:
        """Return the settings of a pass's process that affect numbers.

        A pass is forked from the fork server. The server keeps the environment variables from its
        start. It has none of the settings that this process has since changed in torch or timm.

        Raises:
            BadInput: the process that reads the settings died.
        """
        beforehand = PassSettings(limits=self._beforehand())
        asking = partial(read_settings, device, self._load)
        result = self._call(asking, SettingsResult, beforehand)
        if result.status is not Status.COMPLETED:
            raise BadInput(f"the settings of torch and timm could not be read: {result.reason}")
        return dict(result.settings)

    def costs(self, specs: Sequence[TrialSpec]) -> list[StepCost]:
        """Return the predicted cost of one step of each trial; one process predicts them all.

        Raises:
            BadInput: the process that predicts them died.
        """
        inside = PassSettings(limits=self._beforehand(len(specs)))
        result = self._call(partial(predict_costs, specs, self._load), CostsResult, inside)
        if result.status is not Status.COMPLETED:
            raise BadInput(f"predicting {specs[0].label()} and others failed: {result.reason}")
        return list(result.costs)

    def search(self, spec: TrialSpec, limit: int) -> BatchSearchResult:
        """Search for the largest batch that fits by prediction; one process predicts them all."""
        inside = PassSettings(limits=self._beforehand())
        return self._call(partial(search_batch, spec, limit, self._load), BatchSearchResult, inside)

    def perform(
        self,
        pass_name: str,
        spec: TrialSpec,
        *,
        log: Path | None = None,
        on_cores: Sequence[int] = (),
        checkpoint: CheckpointRequest | None = None,
    ) -> PassResult:
        """Run one pass of a trial and return how it ended, whatever happened to its process.

        Args:
            pass_name: one of ``bsrbench.harness.trial.trial_passes.PASSES``.
            spec: the trial.
            log: the file for the output of the process; by default it is not kept.
            on_cores: the cores that the process is bound to; by default only a clock pass is bound.
            checkpoint: where and how often a training pass saves a checkpoint.

        Raises:
            BadInput: no process can be started here.
        """
        settings = self._settings_of(spec, pass_name)
        if pass_name == CLOCK and not on_cores:
            on_cores = choose(spec.workload.threads)
        limits = self._limits
        if pass_name == CALIBRATION:  # the forecast does without it
            limits = replace(limits, timeout_seconds=CALIBRATION_SECONDS)
        elif pass_name in (ESTIMATE, SPEED) and limits.timeout_seconds is None:
            limits = replace(limits, timeout_seconds=BEFOREHAND_SECONDS)
        inside = PassSettings(settings, limits, tuple(on_cores))
        doing = partial(perform, pass_name, spec, checkpoint, self._load)
        return timed(lambda: self._call(doing, PassResult, inside, log))

    def resident(self, spec: TrialSpec, *, log: Path | None = None) -> Resident:
        """Start a clock pass that is built, warmed up, and then sleeps until its turns.

        Args:
            spec: the trial.
            log: the file for the output of the process; by default it is not kept.

        Raises:
            ServerLost: the fork server was killed twice in a row, or the run was ended.
            BadInput: no process can be started here.
        """
        return self._resident(spec, server(), CLOCK, log)

    def sleeping_resident(self, spec: TrialSpec, *, log: Path | None = None) -> Resident:
        """Start a pass of CPU time as ``resident`` does, in a process whose threads do not spin.

        Raises:
            ServerLost: as ``resident``.
            BadInput: no process can be started here.
        """
        serving = server_of_sleepers()
        self._servers.add(serving)
        return self._resident(spec, serving, CPU_TIME, log)

    def _resident(
        self, spec: TrialSpec, serving: Server, pass_name: str, log: Path | None
    ) -> Resident:
        if package := _package_of(self._load):
            serving.preload(package)
        own = self._settings_of(spec, pass_name)
        cores = tuple(choose(spec.workload.threads))
        inside = PassSettings(present_settings() | own, self._limits, cores)
        for last in (False, True):
            if self._ended:
                break
            try:
                return ResidentProcess(spec, self._load, inside, (serving, pass_name), log)
            except ServerLost:
                if last:
                    raise
        raise ServerLost

    def end(self) -> None:
        """Kill the running processes at once."""
        self._ended = True
        for serving in {server(), *self._servers}:
            serving.end_passes()

    def _settings_of(self, spec: TrialSpec, pass_name: str) -> dict[str, str]:
        """Return the environment variables of a trial's processes."""
        if not spec.workload.compiled_step:
            return {}
        # The pass of CPU time comes first. What it compiles would shorten the compile time.
        apart = CPU_TIME if pass_name == CPU_TIME else ""
        return {COMPILED_CODE: str(self._compiled / f"{spec.row_id()}{apart}")}

    @cached_property
    def _compiled(self) -> Path:
        """The folder of compiled code. Each row has its own, because compile times are measured."""
        folder = Path(tempfile.mkdtemp(prefix="compiled-", dir=server().folder))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _beforehand(self, times: int = 1) -> Limits:
        """Return the time limit of checks and predictions."""
        return Limits(max(BEFOREHAND_SECONDS, self._limits.timeout_seconds or 0.0) * times)

    def _call(
        self,
        function: Callable[[], Kind],
        kind: type[Kind],
        inside: PassSettings,
        log: Path | None = None,
    ) -> Kind:
        """Run a function in a separate process; try again once if the fork server was killed.

        Args:
            function: the function to run.
            kind: the type of its answer.
            inside: the settings of the process.
            log: the file for its output; by default the output is not kept.
        """
        for _ in range(2):
            if self._ended:
                break
            with log_file(log, server().folder) as printed:
                token, present = secrets.token_hex(8), present_settings() | inside.settings
                pass_settings = replace(inside, log=str(printed), token=token, settings=present)
                result = self._once(function, kind, pass_settings)
            if result is not None:
                return result
        return kind(Status.CRASHED, ENDED if self._ended else LOST)

    def _once(
        self, function: Callable[[], Kind], kind: type[Kind], inside: PassSettings
    ) -> Kind | None:
        """Run a function in a process; return ``None`` if the fork server was killed."""
        kills, serving = kernel_kills(), server()
        if package := _package_of(self._load):
            serving.preload(package)
        log, limits = Path(inside.log), inside.limits
        receiver, sender = self._context.Pipe(duplex=False)
        with receiver, sender:
            asked = time.monotonic()
            child = self._context.Process(
                target=run,
                args=(sender, inside, function),
                daemon=not requested_workers(),  # a daemon cannot start child processes
            )
            serving.begin(child)
            try:
                sender.close()
                if self._ended:  # end() was called after the check above
                    return None
                result = wait_for(
                    child,
                    receiver,
                    kind,
                    asked,
                    limits.timeout_seconds,
                    inside.token,
                    lambda: require_bounded(log),
                )
                if result is None and (ended := death(child, kills, log, serving)) is not None:
                    result = kind(ended.status, ended.reason)
            finally:
                serving.finish(child)
        return None if result is None else limits.explained(result)


def _package_of(load: Loader) -> str:
    """Return the package whose ``__init__`` defines a function; empty if another file does."""
    name = getattr(load, "__module__", "")
    return name if hasattr(sys.modules.get(name), "__path__") else ""
