"""The processor and its memory."""

from collections.abc import Callable

import torch

from harness.devices import rapl
from harness.devices.used import Used
from harness.errors import Unreadable


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

    def used_bytes(self) -> Used:
        """Refuse: the kernel's marks say more than a level would.

        Raises:
            Unreadable: always.
        """
        raise Unreadable("memory of the CPU is read from the kernel, by harness.meters.process")

    def energy_counter(self) -> Callable[[], float]:
        """Return a reader of the joules of all processor packages since now."""
        return rapl.joules_from_now()

    def slowdowns(self) -> list[str]:
        """Return nothing: the kernel counts slowdowns and does not say which hold now."""
        return []

    def describe(self) -> dict[str, object]:
        """Return the kind of device and what torch was built to use on it."""
        return {
            "device": "cpu",
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
        }
