"""Say whether an NVIDIA GPU multiplies fp16 fast."""

from collections.abc import Iterator

import torch

from bsrbench.harness.devices import Device
from bsrbench.harness.doctor.meter_check import MeterCheck

FAST_FP16 = (7, 0)  # NVIDIA's compute capability of Volta, the first one with Tensor Cores


def half_precision(name: str, device: Device) -> Iterator[MeterCheck]:
    """Yield whether fp16 is fast; nothing for devices that are not NVIDIA's."""
    if device.torch_device.type == "cuda":
        yield fp16_speed(name, torch.cuda.get_device_capability(device.torch_device))


def fp16_speed(name: str, capability: tuple[int, int]) -> MeterCheck:
    """Say whether an NVIDIA GPU of a compute capability multiplies fp16 fast."""
    speed = "fast" if capability >= FAST_FP16 else "slow"
    since = ".".join(map(str, FAST_FP16))
    words = f"{speed}: compute capability {capability[0]}.{capability[1]}; fast from {since} on"
    return MeterCheck(name, "fp16", words)
