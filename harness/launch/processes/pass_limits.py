"""What a pass may take, and what the outcome says where it took more."""

import resource
from dataclasses import dataclass

from msgspec.structs import replace

from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import Kind

GIB = 2**30
# What C++ and its libraries say where an allocation fails outside torch's allocator.
REFUSED = ("bad_alloc", "Cannot allocate memory", "Resource temporarily unavailable")


@dataclass(frozen=True)
class Limits:
    """What a pass may take.

    Attributes:
        timeout_seconds: a pass that takes longer is killed; ``None`` waits for ever.
        memory_bytes: private memory of a pass's process, code and libraries in it; what would go
            beyond is refused by the kernel, so that torch says which allocation it was.
    """

    timeout_seconds: float | None = None
    memory_bytes: int | None = None

    def impose(self) -> None:
        """Bound the memory of this process, which cannot be undone."""
        if self.memory_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory_bytes, hard))

    def explained(self, result: Kind) -> Kind:
        """Tell the user's own limit apart from a full machine and from a crash."""
        if self.memory_bytes is None:
            return result
        refused = result.status == Status.CRASHED and any(w in result.reason for w in REFUSED)
        if result.status != Status.OUT_OF_MEMORY and not refused:
            return result
        said = f"{result.reason} (the limit of this run is {self.memory_bytes / GIB:.2f} GiB)"
        return replace(result, status=Status.OUT_OF_MEMORY, reason=said)
