"""NVIDIA GPUs. Until a run on one is recorded, nothing here is verified."""

import torch

from harness.errors import BadInput


class Cuda:
    """A CUDA device, read through torch's caching allocator."""

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
            "peak_process_bytes": torch.cuda.max_memory_reserved(self.torch_device),
        }

    def describe(self) -> dict[str, object]:
        """Return the GPU's name and the CUDA version torch was built for."""
        return {
            "device": torch.cuda.get_device_name(self.torch_device),
            "cuda": torch.version.cuda,
            "verified": False,
        }
