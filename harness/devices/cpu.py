"""The processor and its memory."""

import torch


class Cpu:
    """The CPU: its allocator keeps no statistics, so the meters read its events instead."""

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device

    def synchronise(self) -> None:
        """Do nothing: CPU operators return when they are done."""

    def reset_peak(self) -> None:
        """Do nothing: there are no statistics to reset."""

    def peak_bytes(self) -> dict[str, int]:
        """Return nothing: the allocator's own peak comes from its events."""
        return {}

    def describe(self) -> dict[str, object]:
        """Return the kind of device and what torch was built to use on it."""
        return {
            "device": "cpu",
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }
