"""What commands that measure share: store, launcher, progress."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bsrbench.harness.cli.settings import size_in_bytes
from bsrbench.harness.errors import BadInput

if TYPE_CHECKING:
    from bsrbench.harness.launch.cluster.ray_cluster import Cluster
    from bsrbench.harness.launch.local_launcher import LocalLauncher
    from bsrbench.harness.launch.planning.companions import ComparedWith
    from bsrbench.harness.launch.processes.pass_limits import Limits
    from bsrbench.harness.launch.progress import Watcher
    from bsrbench.harness.launch.run_settings import RunSettings
    from bsrbench.harness.records.store import Store
    from bsrbench.harness.records.trial_record import TrialRecord
    from bsrbench.harness.spec.trial_spec import TrialSpec

NEED_NO_FILE = {"digits", "noise"}


def open_store(folder: Path) -> "Store":
    """Return the store in a folder."""
    from bsrbench.harness.records.store import Store

    return Store(folder)


def look_for_data_in(folder: Path | None) -> None:
    """Make this run, and the processes it starts, look for data and weights in a folder.

    Raises:
        BadInput: there is no such folder.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise BadInput(f"--data-root {str(folder)!r} is no folder")
    os.environ["BSRBENCH_DATA"] = str(folder.resolve())


@dataclass(frozen=True)
class RunOptions:
    """What a person asks of a run.

    Attributes:
        timeout: seconds a pass may take.
        memory_limit: what a pass's process may take, as ``512MiB``.
        again: run trials that have a record, too.
        dry: only say what would be done.
        force: run what is predicted not to fit.
        announces: say beforehand what will be done and how long that takes.
        checkpoint_seconds: how much of a long training a kill may lose.
        jobs: trials that only train, at a time.
        order_seed: draws the order of the trials.
        progress: ``auto``, ``json`` or ``quiet``.
        trusted: files of methods that the command names beside those of the trials.
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
    trusted: tuple[str, ...] = ()

    def limits(self) -> "Limits":
        """Return what a pass may take."""
        from bsrbench.harness.launch.processes.pass_limits import Limits

        said = self.memory_limit
        most = None if said is None else size_in_bytes("--memory-limit", said)
        return Limits(self.timeout, most)


@dataclass(frozen=True)
class LauncherOptions:
    """Where trials run.

    Attributes:
        launcher: ``local`` or ``ray``.
        address: of the cluster.
        label: a resource that a node must have.
    """

    launcher: str = "local"
    address: str | None = None
    label: str = ""

    def check(self, run_options: RunOptions) -> None:
        """Check that all that was asked for goes together.

        Raises:
            BadInput: an option of the one launcher was given to the other.
        """
        if self.launcher == "local" and (self.address or self.label):
            raise BadInput("--address and --label belong to --launcher ray")
        if self.launcher == "ray" and (run_options.dry or run_options.jobs > 1):
            raise BadInput("--dry-run and --jobs belong to --launcher local")


HERE = LauncherOptions()


def run_trials(
    store: "Store",
    specs: "list[TrialSpec]",
    run_options: RunOptions,
    where: LauncherOptions = HERE,
    compared_with: "ComparedWith | None" = None,
) -> "list[TrialRecord]":
    """Run what is missing, with progress on a terminal, and return all records.

    Args:
        store: where records go.
        specs: the trials.
        run_options: what is asked of the run.
        where: they run.
        compared_with: knows the rows that every other is compared with, beside which new ones are
            timed; the reference and the baseline of reports unless said.
    """
    where.check(run_options)
    if where.launcher == "local":
        from bsrbench.harness.launch.processes import fork_server

        fork_server.start("bsrbench.methods")  # it loads torch while this process does, below
    from bsrbench import methods
    from bsrbench.harness.launch.interrupts import CtrlC
    from bsrbench.harness.launch.progress import StatusWriter
    from bsrbench.harness.launch.runner import Runner

    limits = run_options.limits()
    _make_sure_of(specs, where)
    with _watcher(run_options.progress) as watcher:
        launcher = make_launcher(limits)
        status = StatusWriter(watcher, store)
        asked = CtrlC(
            lambda: status.say("ending after the pass that runs; Ctrl-C again ends it at once"),
            launcher.end,
        )
        run_settings = _run_settings(run_options, limits, compared_with, lambda: asked.asked)
        state = "stopped"
        try:
            with asked:
                if where.launcher == "ray":
                    cluster = _cluster(where, store, status, limits, run_settings)
                    records = cluster.run(specs, again=run_options.again)
                else:
                    runner = Runner(launcher, store, methods.fingerprint, status, run_settings)
                    records = runner.run(specs, again=run_options.again, dry=run_options.dry)
            state = "planned" if run_options.dry else "finished"
        finally:
            status.end(state)
        return records


def _make_sure_of(specs: "list[TrialSpec]", where: LauncherOptions) -> None:
    """See that what the trials name is here, before anything is started."""
    load_methods(specs)
    if where.launcher == "local":
        require_devices(specs)
    fetch_data(specs)


def _run_settings(
    run_options: RunOptions,
    limits: "Limits",
    compared_with: "ComparedWith | None",
    stopping: Callable[[], bool],
) -> "RunSettings":
    from bsrbench.harness.launch.run_settings import RunSettings
    from bsrbench.reports.compare import anchors

    return RunSettings(
        checkpoint_seconds=run_options.checkpoint_seconds,
        announces=run_options.announces,
        jobs=run_options.jobs,
        order_seed=run_options.order_seed,
        force=run_options.force,
        limits=asdict(limits),
        compared_with=compared_with or anchors.compared_with,
        trusted=run_options.trusted,
        stopping=stopping,
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
    found = MethodLoaders(methods.load, methods.fingerprint)
    return Cluster(found, store, watcher, where.address, where.label, limits, run_settings)


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


def load_methods(specs: "list[TrialSpec]") -> None:
    """Find every mistake in methods and options before a process is started."""
    from bsrbench import methods

    for spec in specs:
        methods.load(spec.method, **spec.options)


def require_devices(specs: "list[TrialSpec]") -> None:
    """Find a device that is not here before gigabytes are downloaded for it.

    Raises:
        BadInput: there is none of that name.
    """
    from bsrbench.harness.devices import open_device

    for name in sorted({spec.workload.device for spec in specs}):
        open_device(name)


def fetch_data(specs: "list[TrialSpec]") -> None:
    """Download what is to be trained on here, where the progress of it can be seen."""
    named = {name for spec in specs if spec.training for name in spec.workload.tasks()}
    wanted = sorted(named - NEED_NO_FILE)
    if wanted:
        from bsrbench.harness.workload import data

        for name in wanted:
            data.fetch(name)


def make_launcher(limits: "Limits | None" = None) -> "LocalLauncher":
    """Return the launcher of this machine, which finds methods by name."""
    from bsrbench import methods
    from bsrbench.harness.launch.local_launcher import LocalLauncher
    from bsrbench.harness.launch.processes.pass_limits import Limits

    return LocalLauncher(methods.load, limits or Limits())
