"""The time and memory limits of a pass, and the outcome of a pass that exceeds them."""

import resource
from dataclasses import dataclass

from msgspec.structs import replace

from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import Kind

GIB = 2**30
# Messages of C++ and its libraries when an allocation fails outside torch's allocator.
REFUSED = ("bad_alloc", "Cannot allocate memory", "Resource temporarily unavailable")


@dataclass(frozen=True)
class Limits:
    """The limits of a pass.

    Attributes:
        timeout_seconds: a pass that takes longer is killed; ``None`` is no limit.
        memory_bytes: private memory of a pass's process, including code and libraries. The kernel
            refuses an allocation beyond it, so that torch reports which allocation failed.
    """

    timeout_seconds: float | None = None
    memory_bytes: int | None = None

    def impose(self) -> None:
        """Limit the memory of this process; this cannot be undone."""
        if self.memory_bytes is not None:
            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            resource.setrlimit(resource.RLIMIT_DATA, (self.memory_bytes, hard))

    def explained(self, result: Kind) -> Kind:
        """Return a result whose reason names the user's memory limit, if that was exceeded."""
        if self.memory_bytes is None:
            return result
        refused = result.status == Status.CRASHED and any(w in result.reason for w in REFUSED)
        if result.status != Status.OUT_OF_MEMORY and not refused:
            return result
        reason = f"{result.reason} (the limit of this run is {self.memory_bytes / GIB:.2f} GiB)"
        return replace(result, status=Status.OUT_OF_MEMORY, reason=reason)
