"""Search for the largest batch whose predicted peak stays within a given memory."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bsrbench.harness.composition import changes_after_steps
from bsrbench.harness.predict.batch_peaks import BatchPeaks, NotReplayable, NotSteady
from bsrbench.harness.predict.memory_budget import require_no_budget
from bsrbench.harness.predict.step_cost import fake_trial, step_cost, with_batch
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.kept_storages import KeptStorages, census

LARGEST_BATCH = 1 << 16
FIRST_RESTS = (1, 2)  # one image can be a special case, such as for the strides of its tensors
SMALLER = 8  # how much smaller a batch is whose step shows whether operators depend on the batch
LARGEST_STEP = 16  # a guess is at most this many times the largest batch known to fit


@dataclass(frozen=True)
class BatchSearch:
    """The result of a search; all values but ``batch`` are bytes.

    Attributes:
        smallest_bytes: predicted peak with one image; no batch needs less.
        batch: the largest batch that fits; ``None`` if one image does not fit.
        predicted_bytes: predicted peak at that batch.
        next_bytes: predicted peak with one more image.
    """

    smallest_bytes: int
    batch: int | None = None
    predicted_bytes: int | None = None
    next_bytes: int | None = None


def predicted_search(spec: TrialSpec, limit: int, load: Loader) -> BatchSearch:
    """Find the largest batch of a trial by predictions in this process.

    Args:
        spec: the trial; its batch is not used.
        limit: the memory in bytes.
        load: makes a method from its name.

    Raises:
        BadInput: the workload names something that does not exist or does not fit.
        Unsupported: the method cannot be applied to the model, its step cannot be predicted,
            or it has a budget.
    """
    require_no_budget(load(spec.method, **spec.options))
    with census() as kept:
        found = _in_one_job(spec, limit, load, kept.fresh())
        if found is not None:
            return found

        def peak(batch: int) -> int:
            return step_cost(with_batch(spec, batch), load, kept.fresh()).limiting_bytes()

        return search(peak, limit)


def _in_one_job(
    spec: TrialSpec, limit: int, load: Loader, kept: KeptStorages
) -> BatchSearch | None:
    """Search with steps of one job; ``None`` if its steps depend on the steps before them."""
    with fake_trial(with_batch(spec, 1), load, kept) as job:
        if changes_after_steps(job.method) or job.current.states:
            return None
        peaks = BatchPeaks(spec, job)
        try:
            return _by_replay(peaks, limit) or search(peaks.run, limit)
        except NotSteady:
            return None


def _by_replay(peaks: BatchPeaks, limit: int) -> BatchSearch | None:
    """Search with replayed steps; ``None`` if fake steps do not confirm the resulting batch."""
    for first in FIRST_RESTS:
        peaks.begin_at(first)
        try:
            found = search(peaks.replayed, limit)
            if found.batch is None or _confirmed(peaks, found.batch):
                return found
        except NotReplayable:
            continue
        peak, after = peaks.run(found.batch), peaks.run(found.batch + 1)
        if peak <= limit < after:
            return replace(found, predicted_bytes=peak, next_bytes=after)
    return None


def _confirmed(peaks: BatchPeaks, batch: int) -> bool:
    """Return whether the replayed peaks of a batch and of the next one are right.

    They are if a fake step of the batch is as replayed, number by number. In a method that works
    on parts of its batch, the number of operators grows with the batch, and such a step takes long.
    Replayed with the one part of a few images, it needs more memory inside these operators, and as
    much elsewhere. So the peak is right if it is elsewhere: if it is right for a smaller batch of
    several parts, and at the same operator.

    Raises:
        NotReplayable: steps of a few images differ in more than numbers.
        NotSteady: a step leaves something behind.
    """
    smaller = max(1, batch // SMALLER)
    if peaks.confirms(smaller):
        return peaks.confirms(batch) and peaks.same_form(batch, batch + 1)
    return (
        peaks.same_form(smaller, batch)
        and peaks.same_form(batch, batch + 1)
        and peaks.run(smaller) == peaks.replayed(smaller)
        and peaks.same_place(smaller, batch)
        and peaks.same_place(smaller, batch + 1)
    )


def search(peak: Callable[[int], int], limit: int) -> BatchSearch:
    """Find the largest batch whose peak stays within ``limit``; each batch is asked for once.

    Args:
        peak: returns the peak of a batch.
        limit: the memory in bytes.
    """
    peaks: dict[int, int] = {}

    def known(batch: int) -> int:
        if batch not in peaks:
            peaks[batch] = peak(batch)
        return peaks[batch]

    smallest = known(1)
    batch = largest(known, limit)
    if batch is None:
        return BatchSearch(smallest)
    return BatchSearch(smallest, batch, known(batch), known(batch + 1))


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
