"""Compute the CPU allocator's peak and the operators' workspaces from the allocator's events."""

import itertools
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.profiler import profile, record_function

from bsrbench.harness.devices.cpu_events import cpu_profile
from bsrbench.harness.torch_internals.composite_operators import is_composite
from bsrbench.harness.torch_internals.eager_internals import (
    TorchDispatchMode,
    profile_mark,
    tree_leaves,
)

MARK, FREED = "bsrbench operator ", "bsrbench freed "


class Frees:
    """Adds a mark to a profile when a storage is freed that was allocated before the profile.

    The allocator has no event for freeing a block that was allocated outside a profile.

    Args:
        storages: storages that may be freed; it keeps only weak references.
    """

    def __init__(self, storages: Iterable[torch.UntypedStorage] = ()) -> None:
        self._finalizers = [
            weakref.finalize(storage, _announce, storage.nbytes(), storage.data_ptr())
            for storage in storages
        ]

    def __enter__(self) -> None:
        """Do nothing; marks made before the profile begins have no effect."""

    def __exit__(self, *_: object) -> None:
        """Stop marking freed storages."""
        for finalizer in self._finalizers:
            finalizer.detach()


def _announce(size: int, address: int) -> None:
    with profile_mark(f"{FREED}{size} {address}"):
        pass


def allocator_rise(action: Callable[[], object], frees: Frees | None = None) -> int:
    """Run ``action`` and return how far the CPU allocator rose above its level at the start.

    Allocations of other threads are not included.

    Args:
        action: must not free memory that it did not allocate, except what ``frees`` marks.
        frees: marks freed storages; none by default.
    """
    with (
        frees or Frees(),
        cpu_profile(memory=True) as profiler,
    ):
        action()
    return max(_levels(_in_order(profiler)))


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
        largest: operator -> the largest size of its workspaces in one call.
    """

    rise: int
    at_peak: int
    hidden_at_peak: int
    operator_at_peak: int | None
    name_at_peak: str | None
    outputs_to_come: int
    largest: dict[str, int]


@dataclass
class _Block:
    size: int
    operator: int | None
    is_output: bool
    is_workspace: bool = False


@dataclass(frozen=True)
class _Event:
    """An allocation (size > 0) or a free (size < 0), and the operator in which it happened."""

    time: int
    address: int
    size: int
    operator: int | None
    announced: bool = False


def workspaces(action: Callable[[], object], frees: Frees | None = None) -> Workspaces:
    """Run ``action`` with every operator marked, and separate outputs from workspaces.

    The arguments are those of ``allocator_rise``.
    """
    with (
        frees or Frees(),
        cpu_profile(memory=True) as profiler,
        _Marks() as marks,
    ):
        action()
    return _tell_apart(_in_order(profiler), marks)


class _Marks(TorchDispatchMode):
    """Marks every operator in the profile and stores the addresses of its outputs."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.names: list[str] = []
        self.outputs: list[set[int]] = []

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
        with record_function(f"{MARK}{len(self.names)}"):
            made = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.names.append(str(func))
        self.outputs.append({tensor.untyped_storage().data_ptr() for tensor in tensors})
        return made


def _in_order(profiler: profile) -> list[_Event]:
    """Return the allocator's events and the marks of ``Frees``, sorted by time.

    A block from an earlier profile has both an event and a mark when it is freed; then the mark is
    left out.
    """
    tree = _results(profiler).experimental_event_tree()
    events = sorted(_events(tree, None), key=lambda event: event.time)
    taken: set[int] = set()
    freed: set[int] = set()
    for event in events:
        if event.size > 0:
            taken.add(event.address)
        elif not event.announced and event.address not in taken:
            freed.add(event.address)
    return [event for event in events if not (event.announced and event.address in freed)]


def _levels(events: list[_Event]) -> list[int]:
    """Return the allocator's level before the first event and after each event."""
    return list(itertools.accumulate((event.size for event in events), initial=0))


def _events(nodes: list[Any], operator: int | None) -> Iterator[_Event]:
    """Yield the allocator's events and the marked frees of a profile tree."""
    for node in nodes:
        if node.name == "[memory]":
            taken = node.extra_fields
            yield _Event(node.start_time_ns, taken.ptr, taken.alloc_size, operator)
        elif node.name.startswith(FREED):
            size, address = map(int, node.name.removeprefix(FREED).split())
            yield _Event(node.start_time_ns, address, -size, operator, announced=True)
        elif node.name.startswith(MARK):
            yield from _events(node.children, int(node.name.removeprefix(MARK)))
        else:
            yield from _events(node.children, operator)


def _tell_apart(events: list[_Event], marks: _Marks) -> Workspaces:
    blocks = _blocks(events, marks)
    levels = _levels(events)
    rise = max(levels)
    peak = levels.index(rise) - 1  # the event that reached the peak; -1 if nothing rose
    held = _alive_after(events, blocks, peak)
    at = events[peak].operator if peak >= 0 else None
    later = [
        block.size
        for event, block in zip(events[peak + 1 :], blocks[peak + 1 :], strict=True)
        if block and block.is_output and event.size > 0 and event.operator == at is not None
    ]
    return Workspaces(
        rise=rise,
        at_peak=sum(block.size for block in held if block.is_workspace),
        hidden_at_peak=sum(b.size for b in held if not (b.is_workspace or b.is_output)),
        operator_at_peak=at,
        name_at_peak=None if at is None else marks.names[at],
        outputs_to_come=sum(later),
        largest=_largest(events, blocks, marks.names),
    )


def _alive_after(events: list[_Event], blocks: list[_Block | None], last: int) -> list[_Block]:
    """Return the blocks that were allocated and not freed up to an event."""
    alive: dict[int, _Block] = {}
    for event, block in zip(events[: last + 1], blocks[: last + 1], strict=True):
        if block is None:
            continue
        if event.size > 0:
            alive[event.address] = block
        else:
            del alive[event.address]
    return list(alive.values())


def _largest(events: list[_Event], blocks: list[_Block | None], names: list[str]) -> dict[str, int]:
    """Return operator -> largest size of its workspaces in one call, largest first."""
    taken: Counter[int] = Counter()
    largest: Counter[str] = Counter()
    for event, block in zip(events, blocks, strict=True):
        if block and block.is_workspace and block.operator is not None:
            taken[block.operator] += event.size
            name = names[block.operator]
            largest[name] = max(largest[name], taken[block.operator])
    return dict(largest.most_common())


def _blocks(events: list[_Event], marks: _Marks) -> list[_Block | None]:
    """Return the block of each event.

    A block that is freed in the operator that allocated it is a workspace. An event that frees a
    block from before the profile has no block.
    """
    alive: dict[int, _Block] = {}
    blocks: list[_Block | None] = []
    for event in events:
        if event.size > 0:
            outputs = marks.outputs[event.operator] if event.operator is not None else set()
            alive[event.address] = _Block(event.size, event.operator, event.address in outputs)
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
