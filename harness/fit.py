"""Find the largest batch that fits in a given memory: predict it, then check it by running."""

from dataclasses import dataclass, replace
from typing import Protocol

from bsrbench.harness.errors import BadInput
from bsrbench.harness.predict.batch_search import BatchSearch
from bsrbench.harness.predict.step_cost import with_batch
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.trial_passes import BatchSearchResult

MOST_TRIES = 3


class FitLauncher(Protocol):
    """What a launcher must be able to do for ``fit``."""

    def search(self, spec: TrialSpec, limit: int) -> BatchSearchResult:
        """Search for the largest batch that fits by prediction, in one process."""

    def perform(self, pass_name: str, spec: TrialSpec) -> PassResult:
        """Run one pass and return how it ended."""


@dataclass(frozen=True)
class Fit:
    """The largest batch of one method.

    Attributes:
        method: the method as the user wrote it.
        smallest_bytes: predicted peak with one image; no batch needs less.
        batch: the largest batch that fits; ``None`` if one image does not fit, or if the
            prediction failed.
        predicted_bytes: predicted peak at that batch.
        next_bytes: predicted peak with one more image.
        allocated_bytes: the allocator's peak at that batch, if it was run.
        reason: why there is no batch.
        device_bytes: memory that was free on the device for a process with a CUDA context;
            ``None`` if it is not known.
    """

    method: str
    smallest_bytes: int | None = None
    batch: int | None = None
    predicted_bytes: int | None = None
    next_bytes: int | None = None
    allocated_bytes: int | None = None
    reason: str = ""
    device_bytes: int | None = None

    def peak_bytes(self) -> int | None:
        """Return the measured peak, or else the predicted one."""
        return self.allocated_bytes or self.predicted_bytes

    def left_on_device_bytes(self) -> int | None:
        """Return how far the peak lies below the device's own limit; ``None`` if not known."""
        peak = self.peak_bytes()
        return None if peak is None or self.device_bytes is None else self.device_bytes - peak


def fit(spec: TrialSpec, memory_bytes: int, launcher: FitLauncher, *, check: bool) -> Fit:
    """Find the largest batch of a trial whose peak stays within ``memory_bytes``.

    Args:
        spec: the trial; its batch is not used.
        memory_bytes: memory for tensors and workspaces, without code, libraries and CUDA context.
        launcher: runs the predictions and the check.
        check: run a step at the resulting batch, and try smaller ones if its workspaces do not fit.
    """
    room, smallest, device = memory_bytes, None, None
    try:
        for _ in range(MOST_TRIES):
            searched, device = _searched(launcher, spec, room)
            smallest = searched.smallest_bytes
            if searched.batch is None:
                reason = _too_small(smallest, memory_bytes)
                return Fit(spec.method, smallest, reason=reason, device_bytes=device)
            result = _of_search(spec.method, searched, device)
            if not check:
                return result
            tried = _allocated(launcher, spec, searched.batch)
            if tried <= memory_bytes:
                return replace(result, allocated_bytes=tried)
            # The memory of workspaces that were not predicted is not available.
            room -= tried - (searched.predicted_bytes or 0)
    except _Failed as failure:
        return Fit(spec.method, smallest, reason=str(failure), device_bytes=device)
    reason = "its workspaces did not fit at any of the batches tried"
    return Fit(spec.method, smallest, reason=reason, device_bytes=device)


class _Failed(Exception):  # noqa: N818 - becomes the reason of a fit without a batch
    """A pass did not give the requested metric."""


def _of_search(method: str, searched: BatchSearch, device_bytes: int | None) -> Fit:
    return Fit(
        method,
        searched.smallest_bytes,
        searched.batch,
        searched.predicted_bytes,
        searched.next_bytes,
        device_bytes=device_bytes,
    )


def _searched(launcher: FitLauncher, spec: TrialSpec, room: int) -> tuple[BatchSearch, int | None]:
    """Return the result of a search and the memory that is free on the device."""
    result = launcher.search(spec, room)
    if result.bad_input:
        raise BadInput(result.reason)
    if result.status != Status.COMPLETED or result.found is None:
        raise _Failed(f"{result.status}: {result.reason}")
    return result.found, result.free_bytes


def _allocated(launcher: FitLauncher, spec: TrialSpec, batch: int) -> int:
    result = launcher.perform("allocated", with_batch(spec, batch))
    if result.bad_input:
        raise BadInput(result.reason)
    if result.status != Status.COMPLETED:
        raise _Failed(f"{result.status}: {result.reason}")
    read = result.readings()
    value = read.measurements.get("peak_allocated_bytes")
    if not isinstance(value, int):
        absence = read.missing.get("peak_allocated_bytes")
        raise _Failed("peak_allocated_bytes was not read" if absence is None else absence.text)
    return value


def _too_small(smallest: int, memory_bytes: int) -> str:
    return f"one image needs {smallest} bytes, more than the available {memory_bytes}"
