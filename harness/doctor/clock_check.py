"""Check the clock: its resolution, and on a GPU that it waits for queued work."""

import time
from collections.abc import Iterator

import torch

from bsrbench.harness.devices import Device
from bsrbench.harness.doctor.device_load import multiply_matrices
from bsrbench.harness.doctor.meter_check import CPU, MeterCheck
from bsrbench.harness.meters.phase_clock import seconds_each

FINEST_SECONDS = 1e-6  # a clock coarser than this cannot time the smallest steps
LOAD_SECONDS = 0.2
EVENTS_AGREE = 0.1  # share by which the clock and the device's own events may differ
TRIES = 3  # the operating system may interrupt this process during one of them
MILLISECONDS_PER_SECOND = 1000.0


def clock(name: str, device: Device) -> Iterator[MeterCheck]:
    """Check the clock's resolution; on a GPU, compare it with the events of the device."""
    if name == CPU:
        yield _resolution(name)
    else:
        yield _beside_events(name, device)


def _resolution(name: str) -> MeterCheck:
    finest = min(s for s in seconds_each(lambda: None, 1000, lambda: None) if s > 0)
    stated = time.get_clock_info("perf_counter").resolution
    measured = (
        f"{finest * 1e9:.0f} ns between two readings, stated resolution {stated * 1e9:.0f} ns"
    )
    return MeterCheck(name, "clock", measured, good=finest < FINEST_SECONDS)


def _beside_events(name: str, device: Device) -> MeterCheck:
    """Time queued work with the clock and with two events; the clock must wait for the work."""
    multiply_matrices(device, 0.0)  # the first product loads a library
    try:
        pairs = [_both_times(device) for _ in range(TRIES)]
    except (RuntimeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [""])[0]
        return MeterCheck(name, "clock", f"not compared: no timed events here ({reason})")
    seconds, by_events = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    message = f"{seconds:.4f} s of work, {by_events:.4f} s by the device's own events"
    near = abs(seconds - by_events) <= EVENTS_AGREE * by_events
    return MeterCheck(name, "clock", message, good=near)


def _both_times(device: Device) -> tuple[float, float]:
    """Return the seconds of some work by the clock and by the device's events."""
    start, end = (torch.Event(device.torch_device, enable_timing=True) for _ in range(2))
    stream = torch.accelerator.current_stream(device.torch_device)
    device.synchronise()
    began = time.perf_counter()
    start.record(stream)
    multiply_matrices(device, LOAD_SECONDS)
    end.record(stream)
    device.synchronise()
    seconds = time.perf_counter() - began
    return seconds, start.elapsed_time(end) / MILLISECONDS_PER_SECOND
