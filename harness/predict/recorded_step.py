"""A fake step as whole numbers, from which the step of another batch follows.

In most steps every number is an affine function of the batch: all sizes of storages, and all shapes
and strides from which workspaces follow. Two recorded steps then give the numbers of a third one.
The rules of the allocator and of the workspaces, which are not affine, are applied afterwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

from torch import Tensor

from bsrbench.harness.devices.gpu_properties import GpuProperties
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES, Life, Timeline
from bsrbench.harness.predict.cuda_allocated import allocated_prediction
from bsrbench.harness.predict.cuda_workspaces import (
    OperatorMemory,
    OperatorSizes,
    OperatorSizesLog,
)
from bsrbench.harness.profiler.counted_step import counted_step
from bsrbench.harness.records.sidecar import PeakPlace
from bsrbench.harness.training.job import Job

NO_MEMORY = OperatorMemory()


@dataclass(frozen=True)
class LimitingPeak:
    """The memory that decides whether a step fits.

    Attributes:
        size_bytes: the memory.
        place: the operator at which it is needed; on a CPU the moment of the step.
    """

    size_bytes: int
    place: PeakPlace | int


@dataclass(frozen=True)
class RecordedStep:
    """What the memory of a step follows from.

    Attributes:
        lives: the storages of the step, with sizes that are not rounded.
        timeline: the operators of the step.
        operators: for each of them, the sizes from which its workspaces follow.
        steady: the step left no tensor behind and replaced none, so the next one starts as it did.
    """

    lives: tuple[Life, ...]
    timeline: Timeline
    operators: tuple[OperatorSizes | None, ...]
    steady: bool

    def form(self) -> tuple[object, ...]:
        """Return everything except the numbers: the order of all events, and what they are."""
        line = self.timeline
        return (
            [(life.born, life.ended) for life in self.lives],
            (line.operator, line.phase, line.module, line.moment),
            [sizes and (sizes.rule, *map(len, sizes.numbers)) for sizes in self.operators],
        )

    def numbers(self) -> list[int]:
        """Return the numbers, always in the same order."""
        shapes = (chain(*sizes.numbers) for sizes in self.operators if sizes is not None)
        return [*(life.size for life in self.lives), *chain(*shapes)]

    def with_numbers(self, numbers: Sequence[int]) -> "RecordedStep":
        """Return a step of the same form with other numbers."""
        ahead = iter(numbers)
        lives = tuple(replace(life, size=next(ahead)) for life in self.lives)
        operators = tuple(sizes and _with_numbers(sizes, ahead) for sizes in self.operators)
        return replace(self, lives=lives, operators=operators)

    def limiting_peak(self, gpu: GpuProperties | None) -> LimitingPeak:
        """Return the memory that decides whether the step fits, and where it is needed.

        Args:
            gpu: where the step would run: the allocator's peak; ``None`` is a CPU: counted bytes.
        """
        if gpu is None:
            return _counted_peak(self.lives)
        lives = [replace(life, size=_in_blocks(life.size)) for life in self.lives]
        memory = [NO_MEMORY if sizes is None else sizes.memory(gpu) for sizes in self.operators]
        predicted = allocated_prediction(lives, self.timeline, memory, gpu)
        return LimitingPeak(predicted.peak_bytes, predicted.place)


def recorded_step(job: Job, batch: tuple[Tensor, Tensor]) -> RecordedStep:
    """Record a step over fake tensors.

    Args:
        job: the trial.
        batch: images [n, 3, side, side] and labels [n].
    """
    with OperatorSizesLog() as log:
        step = counted_step(job, batch)
    steady = not (step.leaves or step.left_behind)
    return RecordedStep(step.lives, step.timeline, tuple(log.operators), steady)


def extrapolated(
    first: tuple[int, RecordedStep], second: tuple[int, RecordedStep], batch: int
) -> RecordedStep | None:
    """Return the step of another batch; ``None`` if two steps do not have the same form.

    Args:
        first: a batch and its step.
        second: the same for the next larger batch, so that all slopes are whole numbers.
        batch: the batch of the step that is wanted.

    Raises:
        ValueError: the batches do not follow each other.
    """
    (start, one), (after, two) = first, second
    if after != start + 1:
        raise ValueError(f"steps of batches {start} and {after} do not give whole slopes")
    if one.form() != two.form():
        return None
    pairs = zip(one.numbers(), two.numbers(), strict=True)
    return one.with_numbers([low + (high - low) * (batch - start) for low, high in pairs])


def _with_numbers(sizes: OperatorSizes, ahead: Iterator[int]) -> OperatorSizes:
    numbers = tuple(tuple(next(ahead) for _ in group) for group in sizes.numbers)
    return OperatorSizes(sizes.rule, numbers)


def _counted_peak(lives: Sequence[Life]) -> LimitingPeak:
    """Return the largest number of bytes that are alive at once."""
    events = [(life.born, life.size) for life in lives]
    events += [(life.ended, -life.size) for life in lives if life.ended is not None]
    events.sort()
    alive = list(accumulate(change for _, change in events))
    peak = max(alive, default=0)
    return LimitingPeak(peak, events[alive.index(peak)][0] if alive else 0)


def _in_blocks(size: int) -> int:
    return -(-size // CUDA_BLOCK_BYTES) * CUDA_BLOCK_BYTES
