"""Find the largest batch that fits in a given memory: predict it, then check it by running."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.run_settings import Launcher
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import TrialSpec

LARGEST_BATCH = 1 << 16
LARGEST_STEP = 16  # a guess is at most this many times the largest batch known to fit
MOST_TRIES = 3


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
    """

    method: str
    smallest_bytes: int | None = None
    batch: int | None = None
    predicted_bytes: int | None = None
    next_bytes: int | None = None
    allocated_bytes: int | None = None
    reason: str = ""

    def peak_bytes(self) -> int | None:
        """Return the measured peak, or else the predicted one."""
        return self.allocated_bytes or self.predicted_bytes


def fit(spec: TrialSpec, memory_bytes: int, launcher: Launcher, *, check: bool) -> Fit:
    """Find the largest batch of a trial whose peak stays within ``memory_bytes``.

    Args:
        spec: the trial; its batch is not used.
        memory_bytes: memory for tensors and workspaces, without code, libraries and CUDA context.
        launcher: runs the prediction and the check.
        check: run a step at the resulting batch, and try smaller ones if its workspaces do not fit.
    """
    peaks: dict[int, int] = {}

    def peak(batch: int) -> int:
        if batch not in peaks:
            peaks[batch] = _predicted(launcher, spec, batch)
        return peaks[batch]

    try:
        smallest = peak(1)
        room = memory_bytes
        for _ in range(MOST_TRIES):
            batch = largest(peak, room)
            if batch is None:
                return Fit(spec.method, smallest, reason=_too_small(smallest, memory_bytes))
            result = Fit(spec.method, smallest, batch, peak(batch), peak(batch + 1))
            if not check:
                return result
            tried = _allocated(launcher, spec, batch)
            if tried <= memory_bytes:
                return replace(result, allocated_bytes=tried)
            room -= tried - peak(batch)  # the memory of workspaces is not available for tensors
    except _Failed as failure:
        return Fit(spec.method, peaks.get(1), reason=str(failure))
    return Fit(
        spec.method, smallest, reason="its workspaces did not fit at any of the batches tried"
    )


def largest(peak: Callable[[int], int], limit: int) -> int | None:
    """Return the largest batch whose peak is within ``limit``, or ``None``.

    ``peak`` must not decrease with the batch. It is nearly linear, so each guess is where the line
    through two known points reaches the limit. If a guess narrows the range by less than half, as
    happens where the slope changes, the next guess doubles the batch or bisects the range.
    """
    if peak(1) > limit:
        return None
    fits, fails = 1, LARGEST_BATCH + 1  # larger batches are not considered
    before, slow = 0, False
    while fails - fits > 1:
        left, bounded = fails - fits, fails <= LARGEST_BATCH
        if not slow:
            guess = _guess(peak, limit, fits, before, fails if bounded else None)
        else:
            guess = (fits + fails) // 2 if bounded else 2 * fits
        guess = min(guess, LARGEST_BATCH)
        if peak(guess) <= limit:
            before, fits = fits, guess
        else:
            fails = guess
        quick = 2 * (fails - fits) <= left if bounded else fits >= 2 * before
        slow = not (quick or slow)
    return fits


def _guess(
    peak: Callable[[int], int], limit: int, fits: int, before: int, fails: int | None
) -> int:
    """Return where the line reaches the limit, strictly between ``fits`` and ``fails``."""
    if fails is not None:
        slope = (peak(fails) - peak(fits)) / (fails - fits)
        guess = fits + int((limit - peak(fits)) / slope)
        return min(max(guess, fits + 1), fails - 1)
    if before == 0:
        return fits + 1
    slope = max(1, (peak(fits) - peak(before)) / (fits - before))
    guess = fits + int((limit - peak(fits)) / slope)
    return min(max(guess, fits + 1), LARGEST_STEP * fits)


class _Failed(Exception):  # noqa: N818 - becomes the reason of a fit without a batch
    """A pass did not give the requested metric."""


def _with_batch(spec: TrialSpec, batch: int) -> TrialSpec:
    micro = spec.workload.micro_batch
    changes = {"batch": batch, "micro_batch": min(micro, batch) if micro else None}
    return spec.model_copy(update={"workload": spec.workload.model_copy(update=changes)})


def _predicted(launcher: Launcher, spec: TrialSpec, batch: int) -> int:
    return _ask(launcher, "estimate", _with_batch(spec, batch), "peak_estimated_bytes")


def _allocated(launcher: Launcher, spec: TrialSpec, batch: int) -> int:
    return _ask(launcher, "allocated", _with_batch(spec, batch), "peak_allocated_bytes")


def _ask(launcher: Launcher, pass_name: str, spec: TrialSpec, metric: str) -> int:
    result = launcher.perform(pass_name, spec)
    if result.bad_input:
        raise BadInput(result.reason)
    if result.status != Status.COMPLETED:
        raise _Failed(f"{result.status}: {result.reason}")
    read = result.readings()
    value = read.measurements.get(metric)
    if not isinstance(value, int):
        absence = read.missing.get(metric)
        raise _Failed(f"{metric} was not read" if absence is None else absence.text)
    return value


def _too_small(smallest: int, memory_bytes: int) -> str:
    return f"one image needs {smallest} bytes, more than the available {memory_bytes}"
