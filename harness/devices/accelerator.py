"""Any other accelerator, through torch's generic interface; what it cannot tell stays unknown."""

import torch

from harness.errors import BadInput


class Accelerator:
    """A device of ``torch.accelerator``: xpu, mps and others."""

    def __init__(self, device: torch.device) -> None:
        current = torch.accelerator.current_accelerator()
        if current is None or current.type != device.type:
            there = current.type if current else "none"
            raise BadInput(f"no device {str(device)!r} here: torch's accelerator is {there}")
        self.torch_device = device

    def synchronise(self) -> None:
        """Wait for everything queued."""
        torch.accelerator.synchronize(self.torch_device)

    def reset_peak(self) -> None:
        """Do nothing: the generic interface has no peaks to reset."""

    def peak_bytes(self) -> dict[str, int]:
        """Return nothing: the generic interface has no peaks."""
        return {}

    def describe(self) -> dict[str, object]:
        """Return the kind of accelerator."""
        return {"device": self.torch_device.type}
