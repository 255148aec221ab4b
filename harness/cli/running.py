"""What commands that measure share: store, launcher, progress."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import BadInput

if TYPE_CHECKING:
    from harness.launch.local import LocalLauncher
    from harness.record import TrialRecord
    from harness.spec import TrialSpec
    from harness.store import Store

NEED_NO_FILE = {"digits", "noise"}


def open_store(folder: Path) -> "Store":
    """Return the store in a folder."""
    from harness.store import Store

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


def run_trials(
    store: "Store",
    specs: "list[TrialSpec]",
    timeout: float | None,
    *,
    again: bool,
    checkpoint_seconds: float = 60.0,
) -> "list[TrialRecord]":
    """Run what is missing, with progress on a terminal, and return all records."""
    from rich.console import Console

    import methods
    from harness.launch.progress import TerminalProgress
    from harness.launch.run import Runner

    console = Console(stderr=True)
    load_methods(specs)
    fetch_data(specs)
    with TerminalProgress(console) as progress:
        launcher = make_launcher(timeout)
        runner = Runner(launcher, store, methods.fingerprint, progress, checkpoint_seconds)
        return runner.run(specs, again=again)


def load_methods(specs: "list[TrialSpec]") -> None:
    """Find every mistake in methods and options before a process is started."""
    import methods

    for spec in specs:
        methods.load(spec.method, **spec.options)


def fetch_data(specs: "list[TrialSpec]") -> None:
    """Download what is to be trained on here, where the progress of it can be seen."""
    wanted = sorted({spec.workload.data for spec in specs if spec.training} - NEED_NO_FILE)
    if wanted:
        from harness.workload import data

        for name in wanted:
            data.fetch(name)


def make_launcher(timeout: float | None = None) -> "LocalLauncher":
    """Return the launcher of this machine, which finds methods by name."""
    import methods
    from harness.launch.local import LocalLauncher

    return LocalLauncher(methods.load, timeout)
