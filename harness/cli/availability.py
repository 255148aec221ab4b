"""Whether the methods, devices and data that trials name are here."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

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
        if spec.profile and spec.profile.trains_as:
            _require_same_training(spec, spec.profile.trains_as)


def _require_same_training(spec: "TrialSpec", label: str) -> None:
    """Check that the methods of a row compute the same gradients of the same weights as another.

    Raises:
        BadInput: they do not; the message says which method differs.
    """
    from bsrbench import methods
    from bsrbench.harness.method import Kind
    from bsrbench.harness.spec.row_name import RowLabel

    reference = RowLabel.parse(label)
    own = _options_by_part(spec.method, spec.options)
    theirs = _options_by_part(reference.method, reference.options)
    fault = f"{spec.label()} cannot have trains_as = {label!r}"
    if changed := [part for part, options in theirs.items() if own.get(part) != options]:
        raise BadInput(
            f"{fault}: {', '.join(changed)} is missing or has other options: leave out trains_as"
        )
    for part in own.keys() - theirs.keys():
        method = methods.load(part, **own[part])
        if (
            not method.exact_forward
            or method.gradient_error
            or Kind.SELECTS_WEIGHTS in method.kinds
        ):
            raise BadInput(
                f"{fault}: {part} changes logits, gradients or the trained weights, so the results "
                "differ: leave out trains_as"
            )


def _options_by_part(method: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each part of a method, without the reference, which adds nothing."""
    from bsrbench.reports.compare.anchors import REFERENCE

    parts = method.split("+")
    each = {part: dict(options.get(part, {}) if parts[1:] else options) for part in parts}
    return {part: own for part, own in each.items() if part != REFERENCE}


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
