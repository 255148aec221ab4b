"""The content of a record's sidecar file: one type per part, for writing and reading.

Old sidecars stay readable: a part may be missing, and unknown keys are ignored.
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
# Reports reserve a place for each block up to the highest number. No model has so many blocks.
MOST_BLOCKS = 10_000
OF_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")


class PackedTimeline(msgspec.Struct, frozen=True):
    """The bytes of live tensors during a step, after each operator that changed them.

    ``index``, ``live_bytes``, ``operator``, ``phase`` and ``module`` have one entry per such
    operator, so they have the same length.

    Attributes:
        index: position of the operator among all operators of the step.
        live_bytes: bytes of live tensors after the operator.
        operators: the names of the operators.
        operator: position of the operator's name in ``operators``.
        phases: the names of the phases.
        phase: position of its phase in ``phases``.
        modules: the names of the modules.
        module: position of its module in ``modules``.
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
            raise ValueError(
                f"lists differ in length: {', '.join(str(len(each)) for each in lists)}"
            )
        for numbers, names in (
            (self.operator, self.operators),
            (self.phase, self.phases),
            (self.module, self.modules),
        ):
            if max(numbers, default=-1) >= len(names):
                raise ValueError(
                    f"index {max(numbers)} is not below {len(names)}, the number of names"
                )


class PeakPlace(msgspec.Struct, frozen=True):
    """The phase, module and operator of a step at which the peak occurred."""

    phase: str | None = None
    module: str | None = None
    operator: str | None = None


class CountedDetail(msgspec.Struct, frozen=True):
    """Details of counted memory in a steady step.

    Attributes:
        peak_place: where the counted peak occurred.
        modules_at_peak: module -> category -> bytes of live tensors at the peak.
        held_by_module: module -> bytes of saved activations when a backward pass begins.
        timeline: bytes of live tensors during the step.
    """

    peak_place: PeakPlace | None = None
    modules_at_peak: dict[str, dict[str, Bytes]] = {}
    held_by_module: dict[str, Bytes] = {}
    timeline: PackedTimeline | None = None

    def __post_init__(self) -> None:
        for name in (*self.held_by_module, *self.modules_at_peak):
            if (block := OF_BLOCK.search(name)) and len(block[1]) >= len(str(MOST_BLOCKS)):
                raise ValueError(f"{name:.60}: a block number must be below {MOST_BLOCKS}")


class AllocatedDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of the allocated peak.

    A CPU has the first five values, from its allocator's events. An NVIDIA GPU has all values.
    Other devices have ``counted_in_blocks_bytes`` and ``rest_bytes``, from their allocator's
    statistics.

    Attributes:
        counted_at_allocated_peak_bytes: live tensors at the moment of the allocated peak.
        operator_at_peak: the operator that ran at this moment; ``None`` between two operators.
        unexplained_bytes: the allocated peak minus these tensors, the workspaces, and what is
            unused in blocks.
        outlived_their_operator_bytes: blocks at the peak that are neither outputs nor workspaces.
        largest_workspaces: operator -> the largest size of its workspaces in one call.
        counted_in_blocks_bytes: counted peak, with each size rounded up to the allocator's blocks.
        rest_bytes: the allocated peak minus ``counted_in_blocks_bytes``.
        library_workspace_bytes: the workspaces that cuBLAS and cuBLASLt hold between operators.
        unused_in_blocks_bytes: bytes of blocks beyond their tensors, which the allocator does not
            split off.
    """

    counted_at_allocated_peak_bytes: int | UnsetType = UNSET
    operator_at_peak: str | UnsetType | None = UNSET
    unexplained_bytes: int | UnsetType | None = UNSET
    outlived_their_operator_bytes: int | UnsetType = UNSET
    largest_workspaces: dict[str, int] | UnsetType = UNSET
    counted_in_blocks_bytes: int | UnsetType = UNSET
    rest_bytes: int | UnsetType = UNSET
    library_workspace_bytes: int | UnsetType | None = UNSET
    unused_in_blocks_bytes: int | UnsetType = UNSET


class EstimatedAllocated(msgspec.Struct, frozen=True):
    """The predicted peak of the allocator of an NVIDIA GPU, by parts.

    Attributes:
        gpu: the model of GPU.
        parts: name -> bytes; their sum is the peak.
        place: the operator that runs at the peak.
    """

    gpu: str = ""
    parts: dict[str, Bytes] = {}
    place: PeakPlace | None = None


class UncountedOperator(msgspec.Struct, frozen=True):
    """An operator that was counted as 0 FLOP: its calls, and the bytes that it read and wrote."""

    calls: int = 0
    bytes: int = 0


class FlopsDetail(msgspec.Struct, frozen=True):
    """The FLOPs of a step by phase, operator and module, and the operators not counted."""

    by_phase: dict[str, int] = {}
    by_operator: dict[str, int] = {}
    by_module: dict[str, dict[str, int]] = {}
    uncounted: dict[str, UncountedOperator] = {}


class MacsDetail(msgspec.Struct, frozen=True):
    """The multiply-adds of the forward passes, their number of images, and uncounted calls."""

    images: int = 0
    by_operator: dict[str, int] = {}
    by_module: dict[str, int] = {}
    uncounted_calls: dict[str, int] = {}


class ClockDetail(msgspec.Struct, frozen=True, omit_defaults=True):
    """The conditions of the timing; each list has one value per visit.

    Newer records were timed in generations: in these, the lists have one value per generation, and
    those of shares and throttling one per watched time, which is at least one round.

    Attributes:
        warmup_steps: number of steps before the first timed step.
        outside_share: share of the cores' time that other processes used; ``None`` if not known.
        stolen_share: share of the cores' time that the hypervisor gave to other machines; ``None``
            if not known.
        throttled: descriptions of what stopped or slowed the cores; ``None`` if not known.
        governor: the frequency governor of the cores; ``None`` if not known.
        cores: the cores to which the process was bound.
        rounds: number of rounds of the round group.
        stopped_by: why the rounds ended: ``interval`` (the intervals were narrow enough) or
            ``budget`` (the time was used up).
        generations: timed metric -> the process generation of each of its samples, in the order
            of the samples. All rows of a round group start new processes at the beginning of a
            generation. In each round of a generation a row has one sample. Empty in records in
            which every visit had a process of its own.
        steps_per_visit: number of steps of which a sample of whole steps is the mean; ``None`` in
            older records, whose samples are single steps. The smallest, if generations differ.
        scheduling: how each process was scheduled: ``real-time`` (before all usual programs) or
            ``usual``; empty in older records, which had usual scheduling.
    """

    warmup_steps: tuple[int, ...] = ()
    outside_share: tuple[float | None, ...] = ()
    stolen_share: tuple[float | None, ...] = ()
    throttled: tuple[tuple[str, ...] | None, ...] = ()
    governor: tuple[str | None, ...] = ()
    cores: tuple[tuple[int, ...], ...] = ()
    rounds: int | None = None
    stopped_by: str | None = None
    generations: dict[str, tuple[Place, ...]] = {}
    steps_per_visit: int | None = None
    scheduling: tuple[str, ...] = ()


class Sidecar(msgspec.Struct, frozen=True, omit_defaults=True):
    """Details of a trial in addition to its measurements; ``None`` is not written.

    Attributes:
        counted: details of counted memory, from the memory pass.
        allocated: details of allocated memory, from the memory pass.
        process_baseline_bytes: memory of the process before the model was built.
        process_read_from: which number of the driver was read.
        flops: FLOPs of a step, from the FLOP pass.
        macs: multiply-adds of the forward passes, from the FLOP pass.
        estimated: predictions of metrics that a profile can also measure; and ``peak_place``.
        estimated_allocated: parts of the predicted peak of the allocator.
        clock: conditions of all visits of the clock pass.
        losses: one loss per training step; ``None`` if it was not finite and fp16 skipped the
            step.
        loss_scale: the loss scale after the last training step in fp16.
        training_began_at: when training began; earlier than the start of its process if training
            was resumed from a checkpoint.
        expert_loads: task -> module with experts -> share of the tokens that went to each expert.
    """

    counted: CountedDetail | None = None
    allocated: AllocatedDetail | None = None
    process_baseline_bytes: int | None = None
    process_read_from: str | None = None
    flops: FlopsDetail | None = None
    macs: MacsDetail | None = None
    estimated: dict[str, int | float | PeakPlace | None] | None = None
    estimated_allocated: EstimatedAllocated | None = None
    clock: ClockDetail | None = None
    losses: tuple[int | float | None, ...] | None = None
    loss_scale: float | None = None
    training_began_at: str | None = None
    expert_loads: dict[str, dict[str, tuple[float, ...]]] | None = None


def unexplained_bytes(sidecar: Sidecar) -> int | None:
    """Return the allocated peak minus tensors and workspaces; ``None`` if it is not known."""
    rest = sidecar.allocated.unexplained_bytes if sidecar.allocated else None
    return None if isinstance(rest, UnsetType) else rest


def joined_sidecars(parts: list[Sidecar]) -> Sidecar:
    """Join the sidecars of several passes; if two have the same part, the later one counts."""
    joined = Sidecar()
    for part in parts:
        values = {name: getattr(part, name) for name in part.__struct_fields__}
        changes = {name: value for name, value in values.items() if value is not None}
        joined = msgspec.structs.replace(joined, **changes)
    return joined


NO_SIDECAR = Sidecar()


def sidecar_from(data: dict[str, Any]) -> Sidecar:
    """Return a sidecar from its JSON data.

    Raises:
        ValueError: a value is not valid; the message says where and why.
    """
    try:
        return msgspec.convert(data, Sidecar)
    except msgspec.ValidationError as error:
        raise ValueError(fault_and_place(error)) from error
