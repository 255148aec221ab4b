"""The parts that all measuring commands share: store, launcher, progress."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bsrbench.harness.cli.availability import (
    absent_devices,
    fetch_data,
    load_methods,
    require_devices,
    require_usable,
)
from bsrbench.harness.cli.settings import size_in_bytes
from bsrbench.harness.errors import BadInput

if TYPE_CHECKING:
    from bsrbench.harness.launch.cluster.ray_cluster import Cluster
    from bsrbench.harness.launch.local_launcher import LocalLauncher
    from bsrbench.harness.launch.planning.companions import ComparedWith
    from bsrbench.harness.launch.planning.row_checks import CheckedRows
    from bsrbench.harness.launch.processes.pass_limits import Limits
    from bsrbench.harness.launch.progress import Watcher
    from bsrbench.harness.launch.run_settings import RunSettings
    from bsrbench.harness.records.store import Store
    from bsrbench.harness.records.trial_record import TrialRecord
    from bsrbench.harness.spec.trial_spec import TrialSpec


def open_store(folder: Path) -> "Store":
    """Return the store in a folder."""
    from bsrbench.harness.records.store import Store

    return Store(folder)


def look_for_data_in(folder: Path | None) -> None:
    """Use a folder as the data root of this run and of the processes it starts.

    Raises:
        BadInput: there is no such folder.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise BadInput(f"--data-root {str(folder)!r} is not a folder")
    os.environ["BSRBENCH_DATA"] = str(folder.resolve())


@dataclass(frozen=True)
class RunOptions:
    """The user's options for a run.

    Attributes:
        timeout: time limit of one pass, in seconds.
        memory_limit: memory limit of one pass's process, for example ``512MiB``.
        again: also run trials that already have a record.
        dry: only print what would be done.
        force: also run trials that are predicted not to fit.
        announces: print what will be done, and how long it takes, before starting.
        checkpoint_seconds: time between checkpoints of a training; a killed training loses at
            most the work of this time.
        jobs: number of trainings that run at the same time.
        order_seed: seed of the order of the trials.
        progress: ``auto``, ``json`` or ``quiet``.
        checked: what this command has checked before; a command with several runs shares it.
        trusted: method files that the user allows to run, in addition to those of the trials.
    """

    timeout: float | None = None
    memory_limit: str | None = None
    again: bool = False
    dry: bool = False
    force: bool = False
    announces: bool = True
    checkpoint_seconds: float = 60.0
    jobs: int = 1
    order_seed: int = 0
    progress: str = "auto"
    checked: "CheckedRows | None" = None
    trusted: tuple[str, ...] = ()

    def limits(self) -> "Limits":
        """Return the time and memory limits of a pass."""
        from bsrbench.harness.launch.processes.pass_limits import Limits

        text = self.memory_limit
        memory_bytes = None if text is None else size_in_bytes("--memory-limit", text)
        return Limits(self.timeout, memory_bytes)


@dataclass(frozen=True)
class LauncherOptions:
    """Where trials run.

    Attributes:
        launcher: ``local`` or ``ray``.
        address: address of the cluster.
        label: resource that a node must have.
    """

    launcher: str = "local"
    address: str | None = None
    label: str = ""

    def check(self, run_options: RunOptions) -> None:
        """Check that the options fit the launcher.

        Raises:
            BadInput: an option of one launcher was given to the other.
        """
        if self.launcher == "local" and (self.address or self.label):
            raise BadInput("--address and --label work only with --launcher ray")
        if self.launcher == "ray" and (run_options.dry or run_options.jobs > 1):
            raise BadInput("--dry-run and --jobs work only with --launcher local")


HERE = LauncherOptions()


def run_trials(
    store: "Store",
    specs: "list[TrialSpec]",
    run_options: RunOptions,
    where: LauncherOptions = HERE,
    compared_with: "ComparedWith | None" = None,
) -> "list[TrialRecord]":
    """Run the missing trials, show progress, and return the records of all trials.

    Args:
        store: where records are stored.
        specs: the trials.
        run_options: the user's options.
        where: where the trials run.
        compared_with: chooses the rows that every other row is compared with; new rows are timed
            in turns with them. The default is the reference and the baseline of reports.
    """
    where.check(run_options)
    if where.launcher == "local":
        from bsrbench.harness.launch.processes import fork_server

        fork_server.start("bsrbench.methods")  # it loads torch in parallel with this process
    from bsrbench import methods
    from bsrbench.harness.launch.interrupts import CtrlC
    from bsrbench.harness.launch.progress import StatusWriter
    from bsrbench.harness.launch.runner import Runner

    limits = run_options.limits()
    launcher = make_launcher(limits)
    absent = _make_sure_of(specs, where, launcher, dry=run_options.dry)
    with _watcher(run_options.progress) as watcher:
        status = StatusWriter(watcher, store)
        asked = CtrlC(
            lambda: status.say("stopping after the current pass; press Ctrl-C again to stop now"),
            launcher.end,
        )
        settings = _run_settings(run_options, limits, compared_with, absent, lambda: asked.asked)
        state = "stopped"
        try:
            with asked:
                if where.launcher == "ray":
                    cluster = _cluster(where, store, status, limits, settings)
                    records = cluster.run(specs, again=run_options.again)
                else:
                    runner = Runner(launcher, store, methods.fingerprint, status, settings)
                    records = runner.run(specs, again=run_options.again, dry=run_options.dry)
            state = "planned" if run_options.dry else "finished"
        finally:
            status.end(state)
        return records


def _make_sure_of(
    specs: "list[TrialSpec]", where: LauncherOptions, launcher: "LocalLauncher", *, dry: bool
) -> frozenset[str]:
    """Check that methods, devices and data are available, before starting any trial.

    Returns:
        the devices that this machine lacks; only a dry run may lack any.
    """
    load_methods(specs)
    absent: frozenset[str] = frozenset()
    if where.launcher == "local":
        absent = absent_devices(spec.workload.device for spec in specs)
        if absent and not dry:
            require_devices(absent, ", or see the plan alone with --dry-run")
        if not dry:
            require_usable(launcher, {spec.workload.device for spec in specs})
    fetch_data(specs)
    return absent


def _run_settings(
    run_options: RunOptions,
    limits: "Limits",
    compared_with: "ComparedWith | None",
    absent: frozenset[str],
    stopping: Callable[[], bool],
) -> "RunSettings":
    from bsrbench.harness.devices import open_device
    from bsrbench.harness.launch.planning.row_checks import CheckedRows
    from bsrbench.harness.launch.run_settings import RunSettings
    from bsrbench.harness.launch.side_by_side import checks_at_a_time
    from bsrbench.harness.records.trial_environment import RecordedLimits
    from bsrbench.reports.compare import anchors

    return RunSettings(
        checkpoint_seconds=run_options.checkpoint_seconds,
        announces=run_options.announces,
        jobs=run_options.jobs,
        order_seed=run_options.order_seed,
        limits=RecordedLimits(**asdict(limits), forced=run_options.force),
        compared_with=compared_with or anchors.compared_with,
        trusted=run_options.trusted,
        absent=absent,
        stopping=stopping,
        checks_at_a_time=checks_at_a_time(open_device("cpu").free_bytes()),
        checked=run_options.checked or CheckedRows(),
    )


def _cluster(
    where: LauncherOptions,
    store: "Store",
    watcher: "Watcher",
    limits: "Limits",
    run_settings: "RunSettings",
) -> "Cluster":
    from bsrbench import methods

    try:
        from bsrbench.harness.launch.cluster.cluster_unit import MethodLoaders
        from bsrbench.harness.launch.cluster.ray_cluster import Cluster
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise BadInput(
            "--launcher ray needs the package ray: pip install '.[ray]' in the checkout"
        ) from error
    loaders = MethodLoaders(methods.load, methods.fingerprint)
    return Cluster(loaders, store, watcher, where.address, where.label, limits, run_settings)


@contextmanager
def _watcher(form: str) -> "Iterator[Watcher]":
    from rich.console import Console

    from bsrbench.harness.launch.progress import JsonLines, Quiet, TerminalProgress

    console = Console(stderr=True)
    if form == "auto":
        with TerminalProgress(console) as progress:
            yield progress
    else:
        yield JsonLines(console) if form == "json" else Quiet()


def make_launcher(limits: "Limits | None" = None) -> "LocalLauncher":
    """Return a launcher that runs trials on this machine and loads methods by name."""
    from bsrbench import methods
    from bsrbench.harness.launch.local_launcher import LocalLauncher
    from bsrbench.harness.launch.processes.pass_limits import Limits

    return LocalLauncher(methods.load, limits or Limits())
