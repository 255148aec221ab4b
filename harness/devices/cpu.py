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
    """The CPU. Its allocator has no statistics, so the meters read its events instead."""

    def __init__(self, device: torch.device) -> None:
        self.torch_device = device

    def synchronise(self) -> None:
        """Do nothing: a CPU operator returns when its work is done."""

    def reset_peak(self) -> None:
        """Do nothing: there are no statistics to reset."""

    def peak_bytes(self) -> dict[str, int]:
        """Return an empty dictionary: the meters compute the peak from the allocator's events."""
        return {}

    def used_bytes(self) -> MemoryUse:
        """Raise an error: the memory of the process is read from the kernel instead.

        Raises:
            Unreadable: always.
        """
        raise Unreadable(
            "memory of the CPU is read from the kernel, by bsrbench.harness.meters.process_memory"
        )

    def free_bytes(self) -> int | None:
        """Return the memory available without swapping, within the limit of the container."""
        sizes = [_available(), _left_in_container()]
        return min((size for size in sizes if size is not None), default=None)

    def energy_counter(self) -> Callable[[], float]:
        """Return a reader of the joules that all processor packages use from now on."""
        return rapl.joules_from_now()

    def slowdowns(self) -> list[str]:
        """Return an empty list: the kernel counts slowdowns, but does not report current ones."""
        return []

    def describe(self) -> dict[str, object]:
        """Return the device type, the CPU capability that torch uses, and the number of threads."""
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
    words = next((line.split() for line in lines if line.startswith("MemAvailable:")), None)
    return None if words is None else int(words[1]) * 1024


def _left_in_container() -> int | None:
    try:
        most = (CONTAINER / "memory.max").read_text(encoding="ascii").strip()
        now = (CONTAINER / "memory.current").read_text(encoding="ascii")
    except OSError:
        return None
    return int(most) - int(now) if most.isdecimal() else None
