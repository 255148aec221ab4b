"""Whether the methods, devices and data that trials name are here."""

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from bsrbench.harness.errors import BadInput

if TYPE_CHECKING:
    from bsrbench.harness.launch.local_launcher import LocalLauncher
    from bsrbench.harness.spec.trial_spec import TrialSpec

NEED_NO_FILE = {"digits", "noise"}


def load_methods(specs: "list[TrialSpec]") -> None:
    """Load every method, to find mistakes in names and options before a process is started."""
    from bsrbench import methods

    for spec in specs:
        methods.load(spec.method, **spec.options)


def absent_devices(names: Iterable[str]) -> frozenset[str]:
    """Return the devices that this machine lacks.

    Raises:
        BadInput: torch does not know a name.
    """
    from bsrbench.harness.devices import open_device, torch_device

    absent = set()
    for name in sorted(set(names)):
        torch_device(name)
        try:
            open_device(name)
        except BadInput:
            absent.add(name)
    return frozenset(absent)


def require_devices(names: Iterable[str], instead: str = "") -> None:
    """Check that every device exists, before anything is predicted or downloaded.

    Args:
        names: the devices.
        instead: what the user can also do, for the message.

    Raises:
        BadInput: there is no device of that name; the message names the option that chooses one.
    """
    from bsrbench.harness.devices import open_device

    for name in sorted(set(names)):
        try:
            open_device(name)
        except BadInput as error:
            raise BadInput(f"{error}; choose another device with --device{instead}") from error


def require_usable(launcher: "LocalLauncher", names: Iterable[str]) -> None:
    """Check that every GPU works, in a process of its own, before anything is measured.

    Raises:
        BadInput: a GPU does not work, for example because another process uses it exclusively.
    """
    from bsrbench.harness.trial.device_probe import probe
    from bsrbench.harness.trial.pass_result import Answer

    for name in sorted(set(names) - {"cpu"}):
        answer = launcher.ask(partial(probe, name), Answer)
        if answer.status != "completed":
            raise BadInput(f"the device {name!r} cannot be used: {answer.reason}")


def fetch_data(specs: "list[TrialSpec]") -> None:
    """Download the training data in this process, so that the user sees the progress."""
    named = {name for spec in specs if spec.training for name in spec.workload.tasks()}
    in_files = sorted(named - NEED_NO_FILE)
    if in_files:
        from bsrbench.harness.workload import data

        for name in in_files:
            data.fetch(name)
