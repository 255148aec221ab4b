"""Check the energy counter while a device works."""

from collections.abc import Iterator

from bsrbench.harness.devices import Device
from bsrbench.harness.doctor.device_load import multiply_matrices
from bsrbench.harness.doctor.meter_check import MeterCheck
from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.energy import joules

LOAD_SECONDS = 0.5  # counters are updated about 10 times per second
# From a small processor to a machine with many. A wrong unit (milli, micro) is off by 1000.
LEAST_WATTS, MOST_WATTS = 1.0, 5000.0


def energy(name: str, device: Device) -> Iterator[MeterCheck]:
    """Check that the energy counter rises under load, and that its unit is plausible."""
    what, took = "energy counter", 0.0

    def work() -> None:
        nonlocal took
        took = multiply_matrices(device, LOAD_SECONDS)

    try:
        used = joules(work, device.energy_counter())
    except Unreadable as reason:
        yield MeterCheck(name, what, f"not measured: {reason}")
        return
    watts = used / took
    message = f"{used:.1f} J in {took:.2f} s of work: {watts:.0f} W"
    yield MeterCheck(name, what, message, good=LEAST_WATTS <= watts <= MOST_WATTS)
