"""The memory of a device that is in use."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class MemoryUse:
    """The device memory in use, and by whom.

    Attributes:
        bytes: bytes in use now.
        of: ``process``: by this process only; ``device``: by all processes on the device, so only
            a difference of two readings has a meaning. Never mix the two.
        reserved: bytes that this process's allocator has reserved on the device now.
    """

    bytes: int
    of: Literal["process", "device"]
    reserved: int = field(default=0, compare=False)
