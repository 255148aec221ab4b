"""Compute an allocator's peak and the operators' workspaces from the allocator's events.

torch's profiler reports the events of the CPU's allocator and of the CUDA caching allocator in the
same form (``c10::reportMemoryUsageToProfiler``). For CUDA the size is that of the block, which can
be larger than the tensor.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import profile, record_function

from bsrbench.harness.devices.cpu_events import cpu_profile
from bsrbench.harness.devices.freed_marks import FREED, Frees
from bsrbench.harness.torch_internals.composite_operators import is_composite
from bsrbench.harness.torch_internals.eager_internals import (
    TorchDispatchMode,
)
from bsrbench.harness.torch_internals.sparse_parts import tensors_with_storage

MARK = "bsrbench operator "
CPU = torch.device("cpu")


def allocator_rise(
    action: Callable[[], object], frees: Frees | None = None, device: torch.device = CPU
) -> int:
    """Run ``action`` and return how far the allocator rose above its level at the start.

    Allocations of other threads are not included.

    Args:
        action: must not free memory that it did not allocate, except what ``frees`` marks.
        frees: marks freed storages; none by default.
        device: whose allocator; the current CUDA device if it has no index.
    """
    with (
        frees or Frees(),
        cpu_profile(memory=True) as profiler,
    ):
        action()
    return max(_levels(_in_order(profiler, device)))


@dataclass(frozen=True)
class Workspaces:
    """Workspaces: memory that operators use internally, without their outputs.

    Attributes:
        rise: the allocator's peak above its level at the start, in bytes.
        at_peak: bytes of workspaces at that peak.
        hidden_at_peak: bytes at that peak of blocks that outlive their operator but are not its
            outputs, or that were allocated outside operators.
        operator_at_peak: index of the operator that ran at the peak; ``None`` between operators.
        name_at_peak: its name.
        outputs_to_come: bytes of outputs that this operator allocated only after the peak.
        unused_at_peak: bytes at that peak of blocks of outputs beyond the outputs' own bytes,
            rounded up to ``grain``.
        largest: operator -> the largest size of its workspaces in one call.
    """

    rise: int
    at_peak: int
    hidden_at_peak: int
    operator_at_peak: int | None
    name_at_peak: str | None
    outputs_to_come: int
    largest: dict[str, int]
    unused_at_peak: int = 0


@dataclass
class _Block:
    size: int
    operator: int | None
    is_output: bool
    tensor_bytes: int
    is_workspace: bool = False


@dataclass(frozen=True)
class RunOperator:
    """An operator that ran: its name, and address -> bytes of each storage that it returned."""

    name: str
    outputs: dict[int, int]


@dataclass(frozen=True)
class AllocatorEvent:
    """An allocation (size > 0) or a free (size < 0), and the operator in which it happened."""

    time: int
    address: int
    size: int
    operator: int | None
    announced: bool = False


def workspaces(
    action: Callable[[], object],
    frees: Frees | None = None,
    device: torch.device = CPU,
    grain: int = 1,
) -> Workspaces:
    """Run ``action`` with every operator marked, and separate outputs from workspaces.

    The arguments are those of ``allocator_rise``, and the smallest block of the allocator.
    """
    with (
        frees or Frees(),
        cpu_profile(memory=True) as profiler,
        _Marks() as marks,
    ):
        action()
    return told_apart(_in_order(profiler, device), marks.operators, grain)


class _Marks(TorchDispatchMode):
    """Marks every operator in the profile and stores the addresses and sizes of its outputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.operators: list[RunOperator] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        if func.namespace == "prim":  # returns a property of a tensor and computes nothing
            return func(*args, **(kwargs or {}))
        with record_function(f"{MARK}{len(self.operators)}"):
            made = func(*args, **(kwargs or {}))
        outputs = [tensor.untyped_storage() for tensor in tensors_with_storage(made)]
        addresses = {storage.data_ptr(): storage.nbytes() for storage in outputs}
        self.operators.append(RunOperator(str(func), addresses))
        return made


def _in_order(profiler: profile, device: torch.device) -> list[AllocatorEvent]:
    """Return the allocator's events and the marks of ``Frees``, sorted by time, no free twice."""
    tree = _results(profiler).experimental_event_tree()
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())
    events = sorted(events_of(tree, device), key=lambda event: event.time)
    return without_double_frees(events, sizes_may_be_old=device.type == "cpu")


def without_double_frees(
    events: list[AllocatorEvent], *, sizes_may_be_old: bool
) -> list[AllocatorEvent]:
    """Leave out a mark or an event where a block from before the profile has both.

    Args:
        events: in order of time.
        sizes_may_be_old: an event can have the size of an earlier block at its address. So it is
            on the CPU: torch stores sizes only while it profiles, and misses that the earlier
            block was freed. Then the mark counts, otherwise the event.
    """
    marks = {event for event in events if event.announced}
    taken: set[int] = set()
    freed: set[AllocatorEvent] = set()  # of blocks from before the profile
    for event in events:
        if event.size > 0:
            taken.add(event.address)
        elif not event.announced and event.address not in taken:
            freed.add(event)
    one, other = (freed, marks) if sizes_may_be_old else (marks, freed)
    double = {event.address for event in other}
    return [event for event in events if not (event in one and event.address in double)]


def _levels(events: list[AllocatorEvent]) -> list[int]:
    """Return the allocator's level before the first event and after each event."""
    return list(itertools.accumulate((event.size for event in events), initial=0))


def events_of(
    nodes: list[Any], device: torch.device, operator: int | None = None
) -> Iterator[AllocatorEvent]:
    """Yield the events of a device's allocator and the marked frees of a profile tree."""
    for node in nodes:
        if node.name == "[memory]":
            taken = node.extra_fields
            if taken.device == device:
                yield AllocatorEvent(node.start_time_ns, taken.ptr, taken.alloc_size, operator)
        elif node.name.startswith(FREED):
            size, address = map(int, node.name.removeprefix(FREED).split())
            yield AllocatorEvent(node.start_time_ns, address, -size, operator, announced=True)
        elif node.name.startswith(MARK):
            yield from events_of(node.children, device, int(node.name.removeprefix(MARK)))
        else:
            yield from events_of(node.children, device, operator)


def told_apart(
    events: list[AllocatorEvent], operators: list[RunOperator], grain: int = 1
) -> Workspaces:
    """Separate outputs from workspaces in the events of one allocator, which are in order.

    Args:
        events: allocations and frees.
        operators: the operators to which the events refer.
        grain: the smallest block of the allocator.
    """
    blocks = _blocks(events, operators, grain)
    levels = _levels(events)
    rise = max(levels)
    peak = levels.index(rise) - 1  # the event that reached the peak; -1 if nothing rose
    held = _alive_after(events, blocks, peak)
    at = events[peak].operator if peak >= 0 else None
    later = [
        block.tensor_bytes
        for event, block in zip(events[peak + 1 :], blocks[peak + 1 :], strict=True)
        if block and block.is_output and event.size > 0 and event.operator == at is not None
    ]
    return Workspaces(
        rise=rise,
        at_peak=sum(block.size for block in held if block.is_workspace),
        hidden_at_peak=sum(b.size for b in held if not (b.is_workspace or b.is_output)),
        operator_at_peak=at,
        name_at_peak=None if at is None else operators[at].name,
        outputs_to_come=sum(later),
        largest=_largest(events, blocks, operators),
        unused_at_peak=sum(b.size - b.tensor_bytes for b in held if b.is_output),
    )


def _alive_after(
    events: list[AllocatorEvent], blocks: list[_Block | None], last: int
) -> list[_Block]:
    """Return the blocks that were allocated and not freed up to an event."""
    alive: dict[int, _Block] = {}
    for event, block in zip(events[: last + 1], blocks[: last + 1], strict=True):
        if block is None:
            continue
        if event.size > 0:
            alive[event.address] = block
        else:
            alive.pop(event.address, None)
    return list(alive.values())


def _largest(
    events: list[AllocatorEvent], blocks: list[_Block | None], operators: list[RunOperator]
) -> dict[str, int]:
    """Return operator -> largest size of its workspaces in one call, largest first."""
    taken: Counter[int] = Counter()
    largest: Counter[str] = Counter()
    for event, block in zip(events, blocks, strict=True):
        if block and block.is_workspace and block.operator is not None:
            taken[block.operator] += event.size
            name = operators[block.operator].name
            largest[name] = max(largest[name], taken[block.operator])
    return dict(largest.most_common())


def _blocks(
    events: list[AllocatorEvent], operators: list[RunOperator], grain: int
) -> list[_Block | None]:
    """Return the block of each event.

    A block that is freed in the operator that allocated it is a workspace. An event that frees a
    block from before the profile has no block.
    """
    alive: dict[int, _Block] = {}
    blocks: list[_Block | None] = []
    for event in events:
        if event.size > 0:
            outputs = operators[event.operator].outputs if event.operator is not None else {}
            used = min(event.size, -(-outputs.get(event.address, 0) // grain) * grain)
            is_output = event.address in outputs
            alive[event.address] = _Block(event.size, event.operator, is_output, used)
            blocks.append(alive[event.address])
            continue
        block = alive.pop(event.address, None)
        if block is not None and block.operator is not None and block.operator == event.operator:
            block.is_workspace, block.is_output = True, False
        blocks.append(block)
    return blocks


def _results(profiler: profile) -> Any:
    kineto = profiler.profiler
    if kineto is None or kineto.kineto_results is None:
        raise RuntimeError("torch's profiler returned no events")
    return kineto.kineto_results
