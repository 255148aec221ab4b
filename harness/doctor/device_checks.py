"""Make all checks of one device that need no trial; runs in a process of its own."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from bsrbench.harness.devices import Device, open_device
from bsrbench.harness.doctor.attention_check import attention
from bsrbench.harness.doctor.clock_check import clock
from bsrbench.harness.doctor.energy_check import energy
from bsrbench.harness.doctor.half_precision import half_precision
from bsrbench.harness.doctor.known_memory import known_bytes, known_use
from bsrbench.harness.doctor.meter_check import DeviceChecks, MeterCheck, guarded
from bsrbench.harness.doctor.precision_check import precision
from bsrbench.harness.trial.trial_passes import failed

CHECKS: dict[str, Callable[[str, Device], Iterator[MeterCheck]]] = {
    "known bytes": known_bytes,
    "memory in use, by the driver": known_use,
    "energy counter": energy,
    "clock": clock,
    "attention": attention,
    "precision": precision,
    "fp16": half_precision,
}


def check_device(name: str) -> DeviceChecks:
    """Return the checks of the device called ``name``; never raises."""
    try:
        device = open_device(name)
        device.synchronise()
        described = device.describe()
    except Exception as error:  # noqa: BLE001 - every error becomes an outcome here
        return failed(DeviceChecks, error)
    checks = list(_described(name, described))
    for what, check in CHECKS.items():
        checks += guarded(name, what, partial(check, name, device))
    return DeviceChecks(device=described, checks=tuple(checks))


def _described(name: str, described: Mapping[str, object]) -> Iterator[MeterCheck]:
    """Yield what the device and its driver report, and whether other processes use it."""
    shown = (f"{key} {value}" for key, value in described.items() if value is not None)
    yield MeterCheck(name, "description", ", ".join(shown))
    if "driver" in described:
        yield _driver(name, described)
    if described.get("other_processes"):
        message = f"{described['other_processes']} other processes use it: times are disturbed"
        yield MeterCheck(name, "other processes", message)


def _driver(name: str, described: Mapping[str, object]) -> MeterCheck:
    """Check that NVML answers about the same GPU as torch; the name of a slice may differ."""
    if described["driver"] is None:
        return MeterCheck(name, "NVML", f"not measured: {described.get('driver_missing')}")
    torchs, nvmls = described["device"], described["driver_device"]
    same = nvmls == torchs or "mig_slice" in described
    return MeterCheck(name, "NVML", f"answers about {nvmls}, torch about {torchs}", good=same)
