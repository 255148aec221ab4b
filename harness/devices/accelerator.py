"""Any other accelerator, through torch's generic interface, which reports few properties."""

from collections.abc import Callable

import torch

from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import BadInput, Unreadable


class Accelerator:
    """A device of ``torch.accelerator``: xpu, mps and others."""

    def __init__(self, device: torch.device) -> None:
        current = torch.accelerator.current_accelerator(check_available=True)
        if current is None or current.type != device.type:
            there = current.type if current else "none"
            raise BadInput(f"no device {str(device)!r} here: torch's accelerator is {there}")
        self.torch_device = device
        self._peak_was_reset = False

    def synchronise(self) -> None:
        """Wait until all queued work is done."""
        torch.accelerator.synchronize(self.torch_device)

    def reset_peak(self) -> None:
        """Return cached blocks to the device and reset the peaks, if the device has statistics."""
        try:
            torch.accelerator.empty_cache()
            torch.accelerator.reset_peak_memory_stats(self.torch_device)
        except RuntimeError:  # mps keeps no statistics
            self._peak_was_reset = False
        else:
            self._peak_was_reset = True

    def peak_bytes(self) -> dict[str, int]:
        """Return the allocated and reserved peaks since the reset; empty without statistics."""
        if not self._peak_was_reset:
            return {}
        try:
            peaks = {
                "peak_allocated_bytes": torch.accelerator.max_memory_allocated(self.torch_device),
                "peak_reserved_bytes": torch.accelerator.max_memory_reserved(self.torch_device),
            }
        except RuntimeError:  # raised by devices without this statistic
            return {}
        # torch returns 0 for a statistic that the device does not have
        return {metric: peak for metric, peak in peaks.items() if peak > 0}

    def used_bytes(self) -> MemoryUse:
        """Raise an error: the generic interface does not report memory by process.

        Raises:
            Unreadable: always.
        """
        raise self._unknown("memory use by process or device")

    def free_bytes(self) -> int | None:
        """Return ``None``: the generic interface reports free memory on few devices only."""
        return None

    def energy_counter(self) -> Callable[[], float]:
        """Raise an error: the generic interface does not report energy.

        Raises:
            Unreadable: always.
        """
        raise self._unknown("energy")

    def slowdowns(self) -> list[str]:
        """Return an empty list: the generic interface does not report slowdowns."""
        return []

    def describe(self) -> dict[str, object]:
        """Return the kind of accelerator."""
        return {"device": self.torch_device.type}

    def _unknown(self, what: str) -> Unreadable:
        kind = self.torch_device.type
        return Unreadable(f"torch's generic accelerator interface does not report {what} of {kind}")
