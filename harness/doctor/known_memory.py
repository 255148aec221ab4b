"""Allocate known sizes on a device, and compare what the meters read."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from bsrbench.harness.devices import Device
from bsrbench.harness.doctor.meter_check import CPU, MeterCheck, compared
from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters.allocator_events import allocator_rise
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES, LiveBytes

MIB = 2**20
FIRST_BYTES, SECOND_BYTES = 4 * MIB + 1, 8 * MIB + 1  # no multiples of any allocator's block
TAKEN_BYTES = 256 * MIB
# The driver gives memory in pages of 2 MiB, and torch reserves in segments of at most 20 MiB.
DRIVER_GRAIN_BYTES = 32 * MIB
TRIES = 3  # another process may take or free memory of the device during one of them


def known_bytes(name: str, device: Device) -> Iterator[MeterCheck]:
    """Check counted and allocated bytes of two tensors that exist at the same time."""
    target = device.torch_device
    grain = 1 if name == CPU else CUDA_BLOCK_BYTES
    expected = sum(-(-size // grain) * grain for size in (FIRST_BYTES, SECOND_BYTES))
    with LiveBytes(device=target.type) as live:
        _up_and_down(target)
    yield compared(name, "counted bytes", live.peak, FIRST_BYTES + SECOND_BYTES)
    if grain > 1:
        with LiveBytes(device=target.type, grain=grain) as live:
            _up_and_down(target)
        yield compared(name, "counted bytes in the allocator's blocks", live.peak, expected)
    rise = allocator_rise if name == CPU else partial(_rise_by_statistics, device)
    risen = rise(lambda: _up_and_down(target))
    if risen is None:
        yield MeterCheck(name, "allocated bytes", "the allocator of this device keeps no peak")
    else:
        yield compared(name, "allocated bytes", risen, expected)


def _up_and_down(target: torch.device) -> None:
    """Hold one tensor, then two; the peak is the sum of both."""
    kept = torch.empty(FIRST_BYTES, dtype=torch.uint8, device=target).fill_(1)
    torch.empty(SECOND_BYTES, dtype=torch.uint8, device=target).fill_(1)
    del kept


def _rise_by_statistics(device: Device, action: Callable[[], None]) -> int | None:
    """Return how far a caching allocator rose; ``None`` if it keeps no peak."""
    action()  # the first kernel of a process may allocate memory that stays
    device.reset_peak()
    before = device.peak_bytes().get("peak_allocated_bytes", 0)
    action()
    peak = device.peak_bytes().get("peak_allocated_bytes")
    return None if peak is None else peak - before


def known_use(name: str, device: Device) -> Iterator[MeterCheck]:
    """Check how far the driver's number for memory in use rises with a tensor of known size.

    On a CPU there is no driver: a pass of its own checks the kernel's high-water mark.
    """
    if name == CPU:
        return
    what = "memory in use, by the driver"
    try:
        rises = [_rise(device) for _ in range(TRIES)]
    except Unreadable as reason:
        yield MeterCheck(name, what, f"not measured: {reason}")
        return
    risen, whose = min(rises, key=lambda rise: abs(rise[0] - TAKEN_BYTES))
    near = abs(risen - TAKEN_BYTES) <= DRIVER_GRAIN_BYTES
    message = f"rose by {risen}, expected about {TAKEN_BYTES} bytes (of the {whose})"
    yield MeterCheck(name, what, message, good=near)


def _rise(device: Device) -> tuple[int, str]:
    device.reset_peak()  # returns cached blocks, so that the tensor needs new memory
    before = device.used_bytes()
    taken = torch.empty(TAKEN_BYTES, dtype=torch.uint8, device=device.torch_device)
    device.synchronise()
    after = device.used_bytes()
    del taken
    if before.of != after.of:
        raise Unreadable("the driver stopped reporting the memory of this process")
    return after.bytes - before.bytes, after.of
