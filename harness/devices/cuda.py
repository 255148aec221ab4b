"""NVIDIA GPUs. ``bsrbench doctor`` compares what this reads with known quantities."""

import os
from collections.abc import Callable
from functools import cached_property

import torch

from bsrbench.harness.devices import cuda_faults, nvml
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import BadInput, Unreadable
from bsrbench.harness.torch_internals.eager_internals import clear_cublas_workspaces


class Cuda:
    """A CUDA device, read through torch's caching allocator and NVIDIA's driver."""

    def __init__(self, device: torch.device) -> None:
        if fault := cuda_faults.why_absent(device.index or 0):
            raise BadInput(f"no device {str(device)!r} here: {fault}")
        self.torch_device = device

    def synchronise(self) -> None:
        """Wait until all kernels are done."""
        torch.cuda.synchronize(self.torch_device)

    def reset_peak(self) -> None:
        """Return cached blocks to the device, so that reserved memory can fall; reset the peaks."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def peak_bytes(self) -> dict[str, int]:
        """Return the allocated and the reserved peak since the reset."""
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(self.torch_device),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(self.torch_device),
        }

    def allocated_bytes(self) -> int:
        """Return the bytes of the blocks that are allocated now."""
        return torch.cuda.memory_allocated(self.torch_device)

    def free_library_workspaces(self) -> int | None:
        """Free the workspaces of cuBLAS and cuBLASLt and return their bytes.

        ``None``: this torch cannot free them.
        """
        self.synchronise()
        before = self.allocated_bytes()
        return before - self.allocated_bytes() if clear_cublas_workspaces() else None

    def used_bytes(self) -> MemoryUse:
        """Return the memory of this process; if it is not known, that of the whole device."""
        own = self._gpu.process_bytes(os.getpid())
        # In a container the driver may list process ids of the host, and one of them may equal ours
        # by chance. This process uses at least the memory that torch has reserved.
        reserved = torch.cuda.memory_reserved(self.torch_device)
        if own is not None and own >= reserved:
            return MemoryUse(own, "process", reserved)
        return MemoryUse(self._gpu.device_bytes(), "device", reserved)

    def free_bytes(self) -> int | None:
        """Return the free memory that the driver reports."""
        return int(torch.cuda.mem_get_info(self.torch_device)[0])

    def energy_counter(self) -> Callable[[], float]:
        """Return a reader of the joules of the whole GPU since now, updated about 10 times/s."""
        start = self._gpu.joules()
        return lambda: self._gpu.joules() - start

    def slowdowns(self) -> list[str]:
        """Return why the driver lowers the clocks now; empty if the driver cannot be read."""
        try:
            return self._gpu.slowdowns()
        except Unreadable:
            return []

    def describe(self) -> dict[str, object]:
        """Return GPU name, versions, driver and number of other processes on the GPU.

        If the driver cannot be read, the reason is returned instead of its values.
        """
        known: dict[str, object] = {
            "device": torch.cuda.get_device_name(self.torch_device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
        try:
            return known | self._gpu.describe(os.getpid())
        except Unreadable as error:
            return known | {"driver": None, "driver_missing": str(error)}

    @cached_property
    def _gpu(self) -> nvml.Gpu:
        """Open the driver at the first use: a process that forks later must not open it."""
        return nvml.Gpu(str(torch.cuda.get_device_properties(self.torch_device).uuid))
