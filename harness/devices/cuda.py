"""NVIDIA GPUs. Until a run on one is recorded, nothing here is verified."""

import os
from collections.abc import Callable
from functools import cached_property

import torch

from bsrbench.harness.devices import nvml
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import BadInput, Unreadable


class Cuda:
    """A CUDA device, read through torch's caching allocator and NVIDIA's driver."""

    def __init__(self, device: torch.device) -> None:
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise BadInput(f"no device {str(device)!r} here: torch sees {count} CUDA devices")
        self.torch_device = device

    def synchronise(self) -> None:
        """Wait for all kernels."""
        torch.cuda.synchronize(self.torch_device)

    def reset_peak(self) -> None:
        """Give cached blocks back, so that the reservation can fall, and reset the peaks."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def peak_bytes(self) -> dict[str, int]:
        """Return allocated and reserved peaks."""
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(self.torch_device),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self.torch_device),
        }

    def used_bytes(self) -> MemoryUse:
        """Return what the driver has given this process; where it can't tell, what is taken."""
        own = self._gpu.process_bytes(os.getpid())
        # In a container the driver may list the host's process ids, one of which can be ours by
        # chance; what torch has reserved is the least that this process can hold.
        if own is not None and own >= torch.cuda.memory_reserved(self.torch_device):
            return MemoryUse(own, "process")
        return MemoryUse(self._gpu.device_bytes(), "device")

    def free_bytes(self) -> int | None:
        """Return what the driver has left to give."""
        return int(torch.cuda.mem_get_info(self.torch_device)[0])

    def energy_counter(self) -> Callable[[], float]:
        """Return a reader of the whole GPU's joules since now; updated some ten times a second."""
        start = self._gpu.joules()
        return lambda: self._gpu.joules() - start

    def slowdowns(self) -> list[str]:
        """Return why the driver lowers the clocks now; nothing where it can't be asked."""
        try:
            return self._gpu.slowdowns()
        except Unreadable:
            return []

    def describe(self) -> dict[str, object]:
        """Return the GPU's name, CUDA version, driver and others on it; or why there is none."""
        known: dict[str, object] = {
            "device": torch.cuda.get_device_name(self.torch_device),
            "cuda": torch.version.cuda,
            "verified": False,
        }
        try:
            return known | self._gpu.describe(os.getpid())
        except Unreadable as error:
            return known | {"driver": None, "driver_missing": str(error)}

    @cached_property
    def _gpu(self) -> nvml.Gpu:
        """Open the driver when it is first asked: not in a process that forks afterwards."""
        return nvml.Gpu(str(torch.cuda.get_device_properties(self.torch_device).uuid))
