"""What commands that measure share: store, launcher, progress."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.launch.local import LocalLauncher
    from harness.record import TrialRecord
    from harness.spec import TrialSpec
    from harness.store import Store


def open_store(folder: Path) -> "Store":
    """Return the store in a folder."""
    from harness.store import Store

    return Store(folder)


def run_trials(
    store: "Store", specs: "list[TrialSpec]", timeout: float | None, *, again: bool
) -> "list[TrialRecord]":
    """Run what is missing, with progress on a terminal, and return all records."""
    from rich.console import Console

    import methods
    from harness.launch.progress import TerminalProgress
    from harness.launch.run import Runner

    console = Console(stderr=True)
    load_methods(specs)
    with TerminalProgress(console) as progress:
        runner = Runner(make_launcher(timeout), store, methods.fingerprint, progress)
        return runner.run(specs, again=again)


def load_methods(specs: "list[TrialSpec]") -> None:
    """Find every mistake in methods and options before a process is started."""
    import methods

    for spec in specs:
        methods.load(spec.method, **spec.options)


def make_launcher(timeout: float | None = None) -> "LocalLauncher":
    """Return the launcher of this machine, which finds methods by name."""
    import methods
    from harness.launch.local import LocalLauncher

    return LocalLauncher(methods.load, timeout)
