"""The memory pass: counted bytes, allocated bytes, and whether the two agree."""

from torch import Tensor

from bsrbench.harness.devices.cuda import Cuda
from bsrbench.harness.meters.allocator_events import allocator_rise, workspaces
from bsrbench.harness.meters.live_bytes import CUDA_BLOCK_BYTES
from bsrbench.harness.profiler.counted_cycle import counted_cycle, over_states
from bsrbench.harness.profiler.counted_step import (
    CountedStep,
    at_peak_metrics,
    counted_step,
    packed,
)
from bsrbench.harness.profiler.cuda_memory import (
    UNEXPLAINED_SHARE,
    counted_at,
    frees,
    only_statistics,
    peaks_by_statistics,
    read_cuda_memory,
)
from bsrbench.harness.profiler.profiled_step import job_and_batch, require_finite
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import (
    PassReadings,
    absent,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import AllocatedDetail, CountedDetail, Sidecar
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Job, Loader
from bsrbench.harness.training.kept_storages import KeptStorages, census, total_bytes
from bsrbench.harness.training.training_step import training_step

SCALARS_BYTES = 1024  # tolerance: scalar tensors made by profiler marks, autograd and optimizers
COMPILING_STEPS = 2  # the first one compiles, and makes the optimizer's state
NOT_COUNTED = (
    "the step is compiled, and under the meter that observes operators it would run uncompiled"
)
NO_EVENTS = "only the events of the CPU's and CUDA's allocators identify workspaces"
COUNTED = tuple(name for name, metric in METRICS.items() if "uncompiled step" in metric.needs)


def memory_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Count the first step and two steady steps, then read the allocator's peak of further steps.

    For a compiled step, only the allocator's peak is read.
    """
    with census() as kept:
        if spec.workload.compiled_step:
            return _of_compiled(spec, load, kept)
        return _of_eager(spec, load, kept)


def _of_eager(spec: TrialSpec, load: Loader, kept: KeptStorages) -> PassReadings:
    job, batch = job_and_batch(spec, load, kept=kept)
    cycle = counted_cycle(job, batch)
    steady = cycle.steady
    require_finite(cycle.again.loss)
    counted = PassReadings(
        {
            "peak_counted_bytes": steady.peak,
            "peak_first_step_bytes": cycle.first_peak,
            "held_after_forward_bytes": steady.held_after_forward,
        }
        | at_peak_metrics(steady),
        notes=notes_of(NoteKind.MEMORY, _doubts(steady, cycle.again)),
        detail=Sidecar(
            counted=CountedDetail(
                peak_place=steady.peak_place,
                modules_at_peak=steady.modules,
                held_by_module=steady.held_by_module,
                timeline=packed(steady.timeline),
            )
        ),
    )
    of_states = over_states(len(job.current.states), cycle.peaks)
    if job.device.torch_device.type == "cpu":
        return joined_readings([counted, of_states, _by_events(job, batch, steady)])
    if isinstance(job.device, Cuda):
        return joined_readings([counted, of_states, read_cuda_memory(job, job.device, batch)])
    return joined_readings([counted, of_states, *_by_statistics(job, batch)])


def _of_compiled(spec: TrialSpec, load: Loader, kept: KeptStorages) -> PassReadings:
    """Read the allocator's peak of steps after compilation; on a CPU, of two steps."""
    job, batch = job_and_batch(spec, load, COMPILING_STEPS, kept)
    not_counted = absent(AbsenceKind.NOT_AVAILABLE, NOT_COUNTED, *COUNTED)
    if job.device.torch_device.type != "cpu":
        return joined_readings([not_counted, PassReadings(peaks_by_statistics(job, batch))])
    peaks = [_peak_by_events(job, batch) for _ in range(2)]
    doubts = [] if peaks[0] == peaks[1] else [_differs(*peaks)]
    allocated = PassReadings(
        {"peak_allocated_bytes": peaks[0]}, notes=notes_of(NoteKind.MEMORY, doubts)
    )
    return joined_readings([not_counted, allocated])


def allocated_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Read the allocator's peak of the second step and nothing else."""
    with census() as kept:
        job, batch = job_and_batch(spec, load, kept=kept)
        if spec.workload.compiled_step:
            training_step(job, *batch)
        else:
            counted_cycle(job, batch)  # finds out what the step leaves behind
        if job.device.torch_device.type == "cpu":
            return PassReadings({"peak_allocated_bytes": _peak_by_events(job, batch)})
        return PassReadings(peaks_by_statistics(job, batch))


def _peak_by_events(job: Job, batch: tuple[Tensor, Tensor]) -> int:
    held = total_bytes(job.between_steps(batch))
    return held + allocator_rise(lambda: training_step(job, *batch), frees(job, batch))


def _doubts(steady: CountedStep, again: CountedStep) -> list[str]:
    notes = []
    grown = max(0, steady.left_behind)  # raises the peak of the next step; noted below
    if again.peak - steady.peak not in {0, grown}:
        notes.append(
            f"counted peak differs between identical steps: {steady.peak} and {again.peak} bytes"
        )
    if steady.left_behind > 0 and again.left_behind > 0:
        notes.append(
            f"steps leave tensors behind: {steady.left_behind} and then {again.left_behind} bytes"
        )
    return notes


def _by_events(job: Job, batch: tuple[Tensor, Tensor], steady: CountedStep) -> PassReadings:
    """Read the CPU allocator's peak from its events, and split it into tensors and workspaces."""
    allocated = _peak_by_events(job, batch)
    if steady.leaves:
        counted_step(job, batch)  # finds out what the previous step has left behind
    held_again = total_bytes(job.between_steps(batch))
    measured = workspaces(lambda: training_step(job, *batch), frees(job, batch))
    counted_there = counted_at(steady, measured)
    rest = allocated - counted_there - measured.at_peak
    doubts = []
    if abs(held_again + measured.rise - allocated) > SCALARS_BYTES:
        doubts.append(_differs(allocated, held_again + measured.rise))
    if abs(rest) > UNEXPLAINED_SHARE * allocated:
        doubts.append(
            f"unexplained: {rest} bytes of the allocated peak are neither tensors nor workspaces"
        )
    detail = AllocatedDetail(
        counted_at_allocated_peak_bytes=counted_there,
        operator_at_peak=measured.name_at_peak,
        unexplained_bytes=rest,
        outlived_their_operator_bytes=measured.hidden_at_peak,
        largest_workspaces=measured.largest,
    )
    return PassReadings(
        {"peak_allocated_bytes": allocated, "workspace_bytes": measured.at_peak},
        notes=notes_of(NoteKind.MEMORY, doubts),
        detail=Sidecar(allocated=detail),
    )


def _differs(first: int, second: int) -> str:
    return f"allocator's peak differs between identical steps: {first} and {second} bytes"


def _by_statistics(job: Job, batch: tuple[Tensor, Tensor]) -> list[PassReadings]:
    """Read the peaks that a caching allocator reports, and count in blocks of CUDA's size."""
    rounded = counted_step(job, batch, grain=CUDA_BLOCK_BYTES)
    return only_statistics(peaks_by_statistics(job, batch), rounded.peak, NO_EVENTS)
