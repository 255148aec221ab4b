"""How much of a device's memory is taken."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MemoryUse:
    """What the machine gives, and to whom.

    Attributes:
        bytes: what is taken now.
        of: ``process``: by this process alone; ``device``: by all that use the device, so only a
            difference of two readings says something. One ``of`` never goes with the other.
    """

    bytes: int
    of: Literal["process", "device"]
