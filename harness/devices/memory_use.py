"""The memory of a device that is in use."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MemoryUse:
    """The device memory in use, and by whom.

    Attributes:
        bytes: bytes in use now.
        of: ``process``: by this process only; ``device``: by all processes on the device, so only
            a difference of two readings has a meaning. Never mix the two.
    """

    bytes: int
    of: Literal["process", "device"]
