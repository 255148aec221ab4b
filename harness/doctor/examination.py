"""Examine the devices at hand, and keep the results for the records of this machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch

from bsrbench.harness.devices import open_device, torch_device
from bsrbench.harness.doctor.device_checks import check_device
from bsrbench.harness.doctor.identical_pairs import identical_pair, judge_pairs
from bsrbench.harness.doctor.known_trial import Performs, known_trial
from bsrbench.harness.doctor.meter_check import CPU, DeviceChecks, MeterCheck
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.device_examination import DeviceExamination, store_examination
from bsrbench.harness.records.trial_record import Status, utc_now
from bsrbench.harness.trial.pass_result import Kind

OTHER_FAMILIES = ("mps", "xpu")


class Examines(Performs, Protocol):
    """The part of a launcher that the doctor uses."""

    def ask(self, function: Callable[[], Kind], kind: type[Kind]) -> Kind:
        """Run a function in a process of its own and return its answer."""


def devices_at_hand() -> tuple[list[str], list[MeterCheck]]:
    """Return the names of the devices of this machine, and why others are not there."""
    count = torch.cuda.device_count()
    gpus = ["cuda"] if count < 2 else [f"cuda:{n}" for n in range(count)]  # noqa: PLR2004 - one GPU needs no number
    there, absent = [CPU], []
    for name in [*gpus, *OTHER_FAMILIES]:
        try:
            open_device(name)
        except BadInput as error:
            absent.append(MeterCheck(name, "device", str(error)))
        else:
            there.append(name)
    return there, absent


def examine(launcher: Examines, pairs: int, devices: Sequence[str] = ()) -> Iterator[MeterCheck]:
    """Yield the result of each check when it is known, and keep those of each device.

    Args:
        launcher: runs passes and checks in processes of their own.
        pairs: number of identical pairs that are timed on each device.
        devices: names of the devices; by default all that are at hand.

    Raises:
        BadInput: a named device is not there.
    """
    there, absent = (_opened(devices), []) if devices else devices_at_hand()
    for name in there:
        yield from _of_device(launcher, name, pairs)
    yield from absent


def _opened(names: Iterable[str]) -> list[str]:
    """Return the names of devices, each once, after opening them."""
    kinds = {name: open_device(name).torch_device.type for name in names}
    return list(dict.fromkeys(CPU if kind == CPU else name for name, kind in kinds.items()))


def _of_device(launcher: Examines, name: str, pairs: int) -> Iterator[MeterCheck]:
    examined = launcher.ask(partial(check_device, name), DeviceChecks)
    if examined.status != Status.COMPLETED:
        message = f"{examined.status}: {examined.reason}"
        yield MeterCheck(name, "device", message, good=False)
        return
    checks: list[MeterCheck] = []
    for check in _all_checks(launcher, name, pairs, examined.checks):
        checks.append(check)
        yield check
    _keep(name, examined.device, checks)


def _all_checks(
    launcher: Examines, name: str, pairs: int, made: Iterable[MeterCheck]
) -> Iterator[MeterCheck]:
    yield from made
    yield from known_trial(launcher, name)
    if pairs:
        yield judge_pairs(name, (identical_pair(launcher, name) for _ in range(pairs)))


def _keep(name: str, described: Mapping[str, Any], checks: Iterable[MeterCheck]) -> None:
    """Store which checks a device passed, for the records that are made on it from now on."""
    judged = {check.what: check.good for check in checks if check.good is not None}
    examination = DeviceExamination(
        finished_at=utc_now(),
        passed=tuple(what for what, good in judged.items() if good),
        failed=tuple(what for what, good in judged.items() if not good),
    )
    store_examination(torch_device(name).type, described, examination)
