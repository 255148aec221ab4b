"""One file per device family, all with the same interface."""

from collections.abc import Callable
from typing import Protocol

import torch

from bsrbench.harness.devices import accelerator, cpu, cuda
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import BadInput


class Device(Protocol):
    """The interface of a device family for the profiler.

    Attributes:
        torch_device: the device of the tensors.
    """

    torch_device: torch.device

    def synchronise(self) -> None:
        """Wait until all queued work is done."""

    def reset_peak(self) -> None:
        """Forget earlier allocator peaks."""

    def peak_bytes(self) -> dict[str, int]:
        """Return the allocator's peaks since the reset, by metric name; may be empty."""

    def used_bytes(self) -> MemoryUse:
        """Return the device memory in use now.

        Raises:
            Unreadable: the device does not report it.
        """

    def free_bytes(self) -> int | None:
        """Return the memory free for a new process; ``None`` if the device does not report it."""

    def energy_counter(self) -> Callable[[], float]:
        """Return a reader of the joules used since now; it never falls.

        Raises:
            Unreadable: there is no counter, or it may not be read; so may the reader itself.
        """

    def slowdowns(self) -> list[str]:
        """Return in words what slows the device down now; also empty if it cannot be read."""

    def describe(self) -> dict[str, object]:
        """Return name, driver and versions for the record."""


def open_device(name: str) -> Device:
    """Return the device called ``name`` (``cpu``, ``cuda``, ``cuda:1``, ``mps``, ``xpu``).

    Raises:
        BadInput: torch does not know the name, or this machine has no such device.
    """
    device = torch_device(name)
    families: dict[str, Callable[[torch.device], Device]] = {"cpu": cpu.Cpu, "cuda": cuda.Cuda}
    return families.get(device.type, accelerator.Accelerator)(device)


def torch_device(name: str) -> torch.device:
    """Return torch's device called ``name``, whether or not this machine has it.

    Raises:
        BadInput: torch does not know the name.
    """
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise BadInput(
            f"no device {name!r}; torch expects cpu, cuda, cuda:0, mps or xpu"
        ) from error
