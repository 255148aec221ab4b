"""What the sidecar of a record holds: one type per part, which is written and read back.

Old sidecars are read for ever: a part may be missing, and keys that are not known here are ignored.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from bsrbench.harness.errors import fault_and_place
from bsrbench.harness.plain_data import LARGEST
from bsrbench.harness.spec.frozen_data import MOST

Bytes = Annotated[int, Meta(ge=0, le=LARGEST - 1)]
Place = Annotated[int, Meta(ge=0, le=MOST)]  # counted from 0
Samples = tuple[int | float, ...]
# Reports have a place for every block up to the last: no model has as many.
MOST_BLOCKS = 10_000
OF_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")


class PackedTimeline(msgspec.Struct, frozen=True):
    """Bytes alive through a step: five lists of one length, and the names that numbers mean.

    Attributes:
        index: place of an operator among all of the step; only those that changed the level.
        live_bytes: after that operator.
        operators: names, which ``operator`` indexes.
        operator: what ran.
        phases: names, which ``phase`` indexes.
        phase: the phase that it ran in.
        modules: names, which ``module`` indexes.
        module: the module that it belongs to.
    """

    index: tuple[Place, ...]
    live_bytes: tuple[Bytes, ...]
    operators: tuple[str, ...]
    operator: tuple[Place, ...]
    phases: tuple[str, ...]
    phase: tuple[Place, ...]
    modules: tuple[str, ...]
    module: tuple[Place, ...]

    def __post_init__(self) -> None:
        lists = (self.index, self.live_bytes, self.operator, self.phase, self.module)
        if len(set(map(len, lists))) > 1:
            raise ValueError(f"lists of {', '.join(str(len(each)) for each in lists)} values")
        for numbers, names in (
            (self.operator, self.operators),
            (self.phase, self.phases),
            (self.module, self.modules),
        ):
            if max(numbers, default=-1) >= len(names):
                raise ValueError(f"number {max(numbers)} means none of {len(names)} names")


class PeakPlace(msgspec.Struct, frozen=True):
    """Where in a step the most bytes were alive."""

    phase: str | None = None
    module: str | None = None
    operator: str | None = None


class CountedDetail(msgspec.Struct, frozen=True):
    """What the counting meter saw of a steady step.

    Attributes:
        peak_place: where the peak is.
        modules_at_peak: module -> category -> bytes alive at the peak.
        held_by_module: module -> bytes of saved activations as a backward pass begins.
        timeline: bytes alive through the step.
    """

    peak_place: PeakPlace | None = None
    modules_at_peak: dict[str, dict[str, Bytes]] = {}
    held_by_module: dict[str, Bytes] = {}
    timeline: PackedTimeline | None = None

    def __post_init__(self) -> None:
        for name in (*self.held_by_module, *self.modules_at_peak):
            if (block := OF_BLOCK.search(name)) and len(block[1]) >= len(str(MOST_BLOCKS)):
                raise ValueError(f"{name:.60} is a block beyond {MOST_BLOCKS}")


class AllocatedDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the allocator's peak is explained; the first five by a CPU's events, the rest by CUDA's.

    Attributes:
        counted_at_allocated_peak_bytes: tensors alive at the allocator's peak.
        operator_at_peak: which operator ran then; ``None`` between two.
        unexplained_bytes: the peak less these tensors and the workspaces.
        outlived_their_operator_bytes: blocks at the peak that are neither output nor workspace.
        largest_workspaces: operator -> the most that its workspaces took in one call.
        counted_in_blocks_bytes: peak of the tensors, rounded up to the allocator's blocks.
        rest_bytes: the allocator's peak less that.
    """

    counted_at_allocated_peak_bytes: int | UnsetType = UNSET
    operator_at_peak: str | UnsetType | None = UNSET
    unexplained_bytes: int | UnsetType | None = UNSET
    outlived_their_operator_bytes: int | UnsetType = UNSET
    largest_workspaces: dict[str, int] | UnsetType = UNSET
    counted_in_blocks_bytes: int | UnsetType = UNSET
    rest_bytes: int | UnsetType = UNSET


class UncountedOperator(msgspec.Struct, frozen=True):
    """An operator that was counted as nothing: its calls, and the bytes it read and wrote."""

    calls: int = 0
    bytes: int = 0


class FlopsDetail(msgspec.Struct, frozen=True):
    """The FLOPs of a step, split in three ways, and what was not counted."""

    by_phase: dict[str, int] = {}
    by_operator: dict[str, int] = {}
    by_module: dict[str, dict[str, int]] = {}
    uncounted: dict[str, UncountedOperator] = {}


class MacsDetail(msgspec.Struct, frozen=True):
    """The multiply-adds of the forward passes, of so many images, and what was not counted."""

    images: int = 0
    by_operator: dict[str, int] = {}
    by_module: dict[str, int] = {}
    uncounted_calls: dict[str, int] = {}


class ClockDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was seen around what was timed; each list has one value per visit.

    Attributes:
        warmup_steps: done before anything was timed.
        outside_share: of the cores' time, which other processes took; ``None`` if not known.
        stolen_share: the same, which the hypervisor took.
        throttled: what stopped or slowed the cores.
        governor: what sets the clock frequency.
        cores: that the process was bound to.
        rounds: visits that each member of the group was to have.
        stopped_by: what ended the rounds, ``interval`` or ``budget``.
    """

    warmup_steps: tuple[int, ...] = ()
    outside_share: tuple[float | None, ...] = ()
    stolen_share: tuple[float | None, ...] = ()
    throttled: tuple[tuple[str, ...] | None, ...] = ()
    governor: tuple[str | None, ...] = ()
    cores: tuple[tuple[int, ...], ...] = ()
    rounds: int | None = None
    stopped_by: str | None = None


class Sidecar(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the passes of a trial saw beside its measurements; ``None`` is not written.

    Attributes:
        counted: of the memory pass.
        allocated: of the memory pass.
        process_baseline_bytes: what the process took before the model.
        process_read_from: which of the driver's numbers was read.
        flops: of the FLOP pass.
        macs: of the FLOP pass.
        estimated: metrics that a profile measures itself, as they were predicted; and
            ``peak_place``.
        clock: of all visits of the clock.
        losses: one per training step.
        training_began_at: before its process did, where training was resumed from a checkpoint.
        expert_loads: task -> module of experts -> share of the tokens that each expert was sent.
    """

    counted: CountedDetail | None = None
    allocated: AllocatedDetail | None = None
    process_baseline_bytes: int | None = None
    process_read_from: str | None = None
    flops: FlopsDetail | None = None
    macs: MacsDetail | None = None
    estimated: dict[str, int | float | PeakPlace | None] | None = None
    clock: ClockDetail | None = None
    losses: Samples | None = None
    training_began_at: str | None = None
    expert_loads: dict[str, dict[str, tuple[float, ...]]] | None = None


def unexplained_bytes(sidecar: Sidecar) -> int | None:
    """Return the allocated peak less tensors and workspaces; ``None`` where that is not known."""
    rest = sidecar.allocated.unexplained_bytes if sidecar.allocated else None
    return None if isinstance(rest, UnsetType) else rest


def joined_sidecars(parts: list[Sidecar]) -> Sidecar:
    """Return what several passes saw as one sidecar; of two values of one part the later counts."""
    found = Sidecar()
    for part in parts:
        stated = {name: getattr(part, name) for name in part.__struct_fields__}
        changes = {name: value for name, value in stated.items() if value is not None}
        found = msgspec.structs.replace(found, **changes)
    return found


NO_SIDECAR = Sidecar()


def sidecar_from(data: dict[str, Any]) -> Sidecar:
    """Return a sidecar from its JSON data.

    Raises:
        ValueError: a part is not as it should be; which, and why.
    """
    try:
        return msgspec.convert(data, Sidecar)
    except msgspec.ValidationError as error:
        raise ValueError(fault_and_place(error)) from error
