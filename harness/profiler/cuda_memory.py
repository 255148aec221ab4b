"""Explain the peak of a caching allocator: tensors, workspaces, and unused rests of blocks."""

from dataclasses import dataclass

from torch import Tensor

from bsrbench.harness.devices.cuda import Cuda
from bsrbench.harness.devices.freed_marks import Frees
from bsrbench.harness.meters.allocator_events import Workspaces, workspaces
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES
from bsrbench.harness.profiler.counted_step import CountedStep, counted_step
from bsrbench.harness.records.pass_readings import PassReadings, absent, joined_readings, notes_of
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import AllocatedDetail, Sidecar
from bsrbench.harness.training.job import Job
from bsrbench.harness.training.training_step import training_step

UNEXPLAINED_SHARE = 0.01  # of the allocated peak; more is noted
NO_HISTORY = "torch's profiler reported no allocations of this device"


@dataclass(frozen=True)
class CudaPeak:
    """What was read about the allocator's peak; all values are bytes.

    Attributes:
        allocated: the peak that the allocator's statistics report.
        before: bytes that were allocated before the step.
        tensors_before: bytes of the tensors that were alive then, in blocks.
        counted: bytes of the tensors alive at the peak, in blocks.
        libraries: the workspaces that cuBLAS and cuBLASLt hold; ``None`` if not known.
    """

    allocated: int
    before: int
    tensors_before: int
    counted: int
    libraries: int | None


def read_cuda_memory(job: Job, device: Cuda, batch: tuple[Tensor, Tensor]) -> PassReadings:
    """Read the allocator's peak of one step, and explain it from the events of another step.

    Args:
        job: the trial.
        device: its device.
        batch: images [n, 3, side, side] and labels [n].
    """
    rounded = counted_step(job, batch, grain=CUDA_BLOCK_BYTES)
    peaks = peaks_by_statistics(job, batch)
    device.reset_peak()
    before = device.allocated_bytes()
    tensors = [storage.nbytes() for storage in job.between_steps(batch).values()]
    measured = workspaces(
        lambda: training_step(job, *batch),
        frees(job, batch),
        device.torch_device,
        CUDA_BLOCK_BYTES,
    )
    peak = CudaPeak(
        allocated=peaks["peak_allocated_bytes"],
        before=before,
        tensors_before=sum(map(_in_blocks, tensors)),
        counted=counted_at(rounded, measured),
        libraries=device.free_library_workspaces(),
    )
    if measured.rise == 0:
        return joined_readings(only_statistics(peaks, rounded.peak, NO_HISTORY))
    explained = explained_peak(peak, measured, rounded.peak)
    return joined_readings([PassReadings(peaks), explained])


def explained_peak(peak: CudaPeak, measured: Workspaces, counted_peak: int) -> PassReadings:
    """Split an allocator's peak into tensors, workspaces, unused rests of blocks, and the rest.

    Blocks that were allocated before the step and are neither tensors nor workspaces of cuBLAS
    count as unused, because they are the rests of these tensors' blocks.

    Args:
        peak: what was read about the peak.
        measured: workspaces and unused bytes, from the allocator's events.
        counted_peak: the counted peak, in blocks; it may be at another moment.
    """
    held = max(0, peak.before - peak.tensors_before)
    libraries = held if peak.libraries is None else min(held, peak.libraries)
    workspace = measured.at_peak + libraries
    unused = held - libraries + measured.unused_at_peak
    rest = peak.allocated - peak.counted - workspace - unused
    doubts = []
    if abs(rest) > UNEXPLAINED_SHARE * peak.allocated:
        doubts.append(
            f"unexplained: {rest} bytes of the allocated peak are neither tensors nor workspaces"
        )
    if held - libraries > UNEXPLAINED_SHARE * peak.allocated:
        doubts.append(
            f"{held - libraries} bytes were allocated before the step that are neither known "
            "tensors nor workspaces of cuBLAS"
        )
    detail = AllocatedDetail(
        counted_at_allocated_peak_bytes=peak.counted,
        operator_at_peak=measured.name_at_peak,
        unexplained_bytes=rest,
        outlived_their_operator_bytes=measured.hidden_at_peak,
        largest_workspaces=measured.largest,
        counted_in_blocks_bytes=counted_peak,
        rest_bytes=peak.allocated - counted_peak,
        library_workspace_bytes=peak.libraries,
        unused_in_blocks_bytes=unused,
    )
    return PassReadings(
        {"workspace_bytes": workspace},
        notes=notes_of(NoteKind.MEMORY, doubts),
        detail=Sidecar(allocated=detail),
    )


def only_statistics(peaks: dict[str, int], counted_peak: int, reason: str) -> list[PassReadings]:
    """Compare an allocator's peak with the counted peak, where no events identify workspaces.

    Args:
        peaks: the allocator's peaks, by metric; may be empty.
        counted_peak: the counted peak, in blocks.
        reason: why there are no workspaces.
    """
    read = [PassReadings(peaks), absent(AbsenceKind.NOT_AVAILABLE, reason, "workspace_bytes")]
    allocated = peaks.get("peak_allocated_bytes")
    if allocated is None:
        return read
    rest = allocated - counted_peak
    doubt = (
        f"{rest} bytes of the allocated peak are not tensors: workspaces of libraries, "
        "which this device's allocator does not distinguish, or unexplained memory"
    )
    doubts = [doubt] if abs(rest) > UNEXPLAINED_SHARE * allocated else []
    detail = AllocatedDetail(counted_in_blocks_bytes=counted_peak, rest_bytes=rest)
    notes = notes_of(NoteKind.MEMORY, doubts)
    return [*read, PassReadings({}, notes=notes, detail=Sidecar(allocated=detail))]


def counted_at(steady: CountedStep, measured: Workspaces) -> int:
    """Return the counted bytes at the allocator's peak, which may be in another operator."""
    at, operators = measured.operator_at_peak, steady.timeline.operator
    if at is None or at >= len(operators) or operators[at] != measured.name_at_peak:
        return steady.peak
    return steady.timeline.live_bytes[at] - measured.outputs_to_come


def peaks_by_statistics(job: Job, batch: tuple[Tensor, Tensor]) -> dict[str, int]:
    """Run a step and return the peaks that the device's allocator reports.

    The batch is images [n, 3, side, side] and labels [n].
    """
    job.device.reset_peak()
    training_step(job, *batch)
    return job.device.peak_bytes()


def frees(job: Job, batch: tuple[Tensor, Tensor]) -> Frees:
    """Return marks of the storages from before a step that the step may free.

    The batch is images [n, 3, side, side] and labels [n].
    """
    return Frees(job.between_steps(batch).values())


def _in_blocks(size: int) -> int:
    return -(-size // CUDA_BLOCK_BYTES) * CUDA_BLOCK_BYTES
