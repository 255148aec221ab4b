"""The result of one check, and the answer of a process that made several."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from bsrbench.harness.trial.pass_result import Answer
from bsrbench.harness.trial.trial_passes import failure

CPU = "cpu"  # its allocator and clock are checked in other ways than those of GPUs


class MeterCheck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of one check.

    Attributes:
        device: name of the examined device.
        what: what was checked, in a few words.
        message: the result in words.
        good: whether the reading is right; ``None`` if there is nothing to judge.
    """

    device: str
    what: str
    message: str
    good: bool | None = None


class DeviceChecks(Answer, frozen=True, forbid_unknown_fields=True):
    """The checks that one process made, and how the device describes itself."""

    device: Mapping[str, Any] = {}
    checks: tuple[MeterCheck, ...] = ()


def compared(device: str, what: str, got: object, expected: object) -> MeterCheck:
    """Return the check of a number that must be exactly as expected."""
    return MeterCheck(device, what, f"{got}, expected {expected}", good=got == expected)


def guarded(device: str, what: str, make: Callable[[], Iterator[MeterCheck]]) -> list[MeterCheck]:
    """Return the checks of one kind; if an error ends them, the last one is the error's text."""
    checks: list[MeterCheck] = []
    try:
        for check in make():
            checks.append(check)  # noqa: PERF402 - an error keeps the earlier checks
    except Exception as error:  # noqa: BLE001 - one failing check must not hide the others
        checks.append(MeterCheck(device, what, failure(error).reason, good=False))
    return checks
