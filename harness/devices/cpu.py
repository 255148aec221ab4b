"""The processor and its memory."""

from collections.abc import Callable
from pathlib import Path

import torch

from bsrbench.harness.devices import rapl
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import Unreadable

MEMORY = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")  # cgroup version 2; a container sees its own


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

    def used_bytes(self) -> MemoryUse:
        """Refuse: the kernel's marks say more than a level would.

        Raises:
            Unreadable: always.
        """
        raise Unreadable(
            "memory of the CPU is read from the kernel, by bsrbench.harness.meters.process_memory"
        )

    def free_bytes(self) -> int | None:
        """Return what the kernel could give without swapping, within this container's bound."""
        found = [_available(), _left_in_container()]
        return min((size for size in found if size is not None), default=None)

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


def _available() -> int | None:
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found[1]) * 1024


def _left_in_container() -> int | None:
    try:
        most = (CONTAINER / "memory.max").read_text(encoding="ascii").strip()
        now = (CONTAINER / "memory.current").read_text(encoding="ascii")
    except OSError:
        return None
    return int(most) - int(now) if most.isdecimal() else None
