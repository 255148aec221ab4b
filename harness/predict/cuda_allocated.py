"""Predict the peak of torch's CUDA allocator from a step that was counted over fake tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

from bsrbench.harness.devices.gpu_properties import GpuProperties
from bsrbench.harness.meters.live_bytes import Life, Timeline
from bsrbench.harness.predict.caching_allocator import Block, CachingAllocator, rounded
from bsrbench.harness.predict.cuda_workspaces import OperatorMemory
from bsrbench.harness.predict.library_workspaces import library_workspaces
from bsrbench.harness.records.sidecar import PeakPlace

TENSORS = "tensors"
UNUSED = "unused rest of blocks"


@dataclass(frozen=True)
class AllocatedPrediction:
    """The predicted peak of the allocator.

    Attributes:
        peak_bytes: the peak.
        parts: name -> bytes of each part of the peak; their sum is the peak.
        place: the operator that runs at the peak.
    """

    peak_bytes: int
    parts: dict[str, int]
    place: PeakPlace


def allocated_prediction(
    lives: Sequence[Life],
    timeline: Timeline,
    operators: Sequence[OperatorMemory],
    gpu: GpuProperties,
) -> AllocatedPrediction:
    """Return the allocator's peak in a step.

    The allocator's rules are applied to every creation and every free of a storage, in the order
    of the step. Each operator's workspaces are allocated after its outputs, and freed again. So
    the peak is where tensors and the running operator's workspaces need most together.

    Args:
        lives: the storages of the step, with sizes that are not rounded.
        timeline: the operators of the step, with the moment at which each ended.
        operators: for each of them, what it allocates on CUDA only.
        gpu: where the step would run.

    Raises:
        ValueError: ``timeline`` and ``operators`` are not of the same step.
    """
    if len(operators) != len(timeline.moment):
        raise ValueError(
            f"{len(operators)} operators were logged and {len(timeline.moment)} were counted"
        )
    held = library_workspaces(zip(timeline.phase, timeline.operator, strict=True), gpu)
    replay = _Replay(held, _requests(lives, timeline, operators))
    for index, (moment, operator) in enumerate(zip(timeline.moment, operators, strict=True)):
        replay.go_to(moment, index)
        replay.run(operator.workspaces, index)
    return replay.prediction(timeline)


def _requests(
    lives: Sequence[Life], timeline: Timeline, operators: Sequence[OperatorMemory]
) -> list[tuple[int, int, int]]:
    """Return (moment, index of the storage, requested bytes or 0 for its free), in order."""
    sizes = [life.size for life in lives]
    by_moment = {life.born: index for index, life in enumerate(lives)}
    begun = 0
    for moment, operator in zip(timeline.moment, operators, strict=True):
        if operator.resized is not None:
            before, after = operator.resized
            made = [by_moment[at] for at in range(begun + 1, moment + 1) if at in by_moment]
            for index in [index for index in made if rounded(sizes[index]) == rounded(before)][-1:]:
                sizes[index] = after
        begun = moment
    born = [(life.born, i, size) for i, (life, size) in enumerate(zip(lives, sizes, strict=True))]
    ended = [(life.ended, i, 0) for i, life in enumerate(lives) if life.ended is not None]
    return sorted([*(event for event in born if event[2] > 0), *ended])


class _Replay:
    """Applies the requests of a step to a model of the allocator, and stores the peak."""

    def __init__(self, held: dict[str, int], requests: list[tuple[int, int, int]]) -> None:
        self._allocator = CachingAllocator()
        self._held = {name: self._allocator.allocate(size) for name, size in held.items()}
        self._requests, self._next = requests, 0
        self._live: dict[int, Block] = {}
        self._peak_bytes, self._peak_operator = self._allocator.allocated, 0
        self._at_peak: tuple[list[Block], list[Block]] = [], []  # tensors, workspaces

    def go_to(self, moment: int, operator: int) -> None:
        """Apply the requests up to a moment."""
        while self._next < len(self._requests) and self._requests[self._next][0] <= moment:
            _, index, size = self._requests[self._next]
            self._next += 1
            if size:
                self._live[index] = self._allocator.allocate(size)
                self._note([], operator)
            elif index in self._live:
                self._allocator.free(self._live.pop(index))

    def run(self, workspaces: Sequence[int], operator: int) -> None:
        """Allocate the workspaces of an operator, and free them."""
        blocks = [self._allocator.allocate(size) for size in workspaces]
        self._note(blocks, operator)
        for block in blocks:
            self._allocator.free(block)

    def prediction(self, timeline: Timeline) -> AllocatedPrediction:
        """Return the peak so far and its parts."""
        tensors, workspaces = self._at_peak
        at = self._peak_operator
        place = PeakPlace(timeline.phase[at], timeline.module[at], timeline.operator[at])
        parts = {TENSORS: sum(block.requested for block in tensors)}
        parts |= {name: block.requested for name, block in self._held.items()}
        if workspaces:
            name = f"workspace of {timeline.operator[at].rpartition('.')[0]}"
            parts[name] = sum(block.requested for block in workspaces)
        blocks = [*tensors, *workspaces, *self._held.values()]
        parts[UNUSED] = sum(block.unused() for block in blocks)
        return AllocatedPrediction(self._peak_bytes, parts, place)

    def _note(self, workspaces: list[Block], operator: int) -> None:
        if self._allocator.allocated > self._peak_bytes:
            self._peak_bytes, self._peak_operator = self._allocator.allocated, operator
            self._at_peak = list(self._live.values()), workspaces
