"""The peaks of a trial by batch, from a few fake steps of one job."""

from dataclasses import replace

from bsrbench.harness.predict.fake_step import fake_batch, target_gpu
from bsrbench.harness.predict.recorded_step import RecordedStep, extrapolated, recorded_step
from bsrbench.harness.predict.step_cost import bytes_of_the_rest, few_micro_batches, with_batch
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Job

FEWEST_RESTS = 4  # with smaller micro-batches there are too few rests to extrapolate between


class NotReplayable(Exception):  # noqa: N818 - other batches must be predicted by their own steps
    """A step of another batch does not follow from two steps."""


class NotSteady(Exception):  # noqa: N818 - every batch then needs a job of its own
    """A step leaves something behind, so the next one does not start as it did."""


class BatchPeaks:
    """Predicts the peak at any batch, by a fake step or from two fake steps.

    Batches with the same number of full micro-batches, and with a rest, have steps of the same
    form. Their numbers are affine functions of the rest. Without micro-batches the whole batch is
    the rest.

    Args:
        spec: the trial; its batch is not used.
        job: the trial over fake tensors, with its optimizer state.
        first: the smaller of the two rests from which the others follow.
    """

    def __init__(self, spec: TrialSpec, job: Job, first: int = 1) -> None:
        self._spec, self._job, self._first = spec, job, first
        self._steps: dict[int, RecordedStep] = {}

    def begin_at(self, first: int) -> None:
        """Let steps follow from the rests ``first`` and ``first + 1``."""
        self._first = first

    def replayed(self, batch: int) -> int:
        """Return the peak at a batch without a step of this batch, where this is possible.

        Raises:
            NotReplayable: the steps from which it would follow differ in more than numbers.
            NotSteady: one of them leaves something behind.
        """
        return self._bytes(batch, self._followed(batch) or self._step(batch))

    def run(self, batch: int) -> int:
        """Return the peak at a batch, by a fake step of this batch.

        Raises:
            NotSteady: the step leaves something behind.
        """
        return self._bytes(batch, self._step(batch))

    def confirms(self, batch: int) -> bool:
        """Return whether a fake step of a batch is the one that follows from two others."""
        step, followed = self._step(batch), self._followed(batch)
        return followed is None or (
            step.form() == followed.form() and step.numbers() == followed.numbers()
        )

    def same_form(self, one: int, other: int) -> bool:
        """Return whether two batches have the same number of micro-batches, up to a few."""
        return self._split(one)[0] == self._split(other)[0]

    def same_place(self, one: int, other: int) -> bool:
        """Return whether two batches have their replayed peaks at the same operator.

        Raises:
            NotReplayable: the steps from which they would follow differ in more than numbers.
            NotSteady: one of them leaves something behind.
        """
        gpu = target_gpu(self._spec.workload)
        steps = [self._followed(batch) or self._step(batch) for batch in (one, other)]
        places = [step.limiting_peak(gpu).place for step in steps]
        return places[0] == places[1]

    def _bytes(self, batch: int, step: RecordedStep) -> int:
        """Return the limiting memory of a step, with the images of the whole batch."""
        job = self._at(self._few(batch))
        rest = bytes_of_the_rest(job, with_batch(self._spec, batch).workload.step_images())
        return step.limiting_peak(target_gpu(self._spec.workload)).size_bytes + rest

    def _split(self, batch: int) -> tuple[int, int]:
        """Return the number of images in full micro-batches, and the rest."""
        few, micro = self._few(batch), self._spec.workload.micro_batch
        if micro is None or few <= micro:
            return 0, few
        return few - few % micro, few % micro

    def _few(self, batch: int) -> int:
        """Return the batch with as few micro-batches as needed."""
        return few_micro_batches(with_batch(self._spec, batch)).workload.batch

    def _followed(self, batch: int) -> RecordedStep | None:
        """Return the step of a batch that follows from two others; ``None`` if it is one of them.

        Raises:
            NotReplayable: they differ in more than numbers.
        """
        full, rest = self._split(batch)
        micro, start = self._spec.workload.micro_batch, self._first
        if rest <= start + 1 or (micro is not None and micro <= FEWEST_RESTS):
            return None
        pair = [(near, self._step(full + near)) for near in (start, start + 1)]
        step = extrapolated(pair[0], pair[1], rest)
        if step is None:
            raise NotReplayable
        return step

    def _step(self, batch: int) -> RecordedStep:
        few = self._few(batch)
        if few not in self._steps:
            job = self._at(few)
            self._steps[few] = recorded_step(job, fake_batch(job))
        if not self._steps[few].steady:
            raise NotSteady
        return self._steps[few]

    def _at(self, batch: int) -> Job:
        return replace(self._job, spec=with_batch(self._spec, batch))
