"""Run the passes of a small trial; compare them with known numbers and with each other."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from bsrbench.harness.doctor.meter_check import CPU, MeterCheck, compared
from bsrbench.harness.launch.turns.resident import Resident
from bsrbench.harness.profiler.process_pass import KNOWN_BYTES
from bsrbench.harness.records.pass_readings import PassReadings
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.trial.pass_result import PassResult

MIB = 2**20
KERNEL_GRAIN_BYTES = MIB  # tolerance: pages, stacks and small blocks in the kernel's number
# A DeiT of 12 blocks at 32 px: 5 tokens. 2 FLOP for each of: 4 patches x 3 x 16 x 16 x 192, a
# block's 5 x 12 x 192^2 + 2 x 5^2 x 192 twelve times, and a head of 192 x 10; 4 images.
KNOWN_FORWARD_FLOP = (
    2 * 4 * (4 * 3 * 16**2 * 192 + 12 * (5 * 12 * 192**2 + 2 * 5**2 * 192) + 192 * 10)
)
# On a GPU a prediction may leave out workspaces or include them. On this small model they are a
# large share, so only the order of magnitude can be judged: from the counted to the allocated peak.
LEAST_SHARE_OF_COUNTED, MOST_SHARE_OF_ALLOCATED = 0.99, 1.05
PASSES = ("memory", "process", "flops", "estimate")


class Performs(Protocol):
    """The part of a launcher that runs passes."""

    def perform(self, pass_name: str, spec: TrialSpec) -> PassResult:
        """Run one pass and return how it ended."""

    def resident(self, spec: TrialSpec) -> Resident:
        """Start a clock pass that sleeps until its turns."""


def known_spec(device: str, profile: Profile) -> TrialSpec:
    """Return the small trial whose numbers are known, on a device."""
    known = Workload(
        model="deit_tiny_patch16_224", image_size=32, classes=10, batch=4, device=device
    )
    return TrialSpec(method="full", workload=known, profile=profile)


def known_trial(launcher: Performs, device: str) -> Iterator[MeterCheck]:
    """Yield the checks of the known trial; a pass that does not complete ends them."""
    spec = known_spec(device, Profile(rounds=0))
    names = (*PASSES, "known_process") if device == CPU else PASSES
    results = {name: launcher.perform(name, spec) for name in names}
    for name, result in results.items():
        if result.status != Status.COMPLETED:
            message = f"{result.status}: {result.reason}"
            yield MeterCheck(device, f"{name} pass", message, good=False)
            return
    readings = {name: result.readings() for name, result in results.items()}
    yield from _flops(device, readings["flops"])
    yield _estimate(device, readings)
    yield _workspaces(device, readings["memory"])
    yield _order(device, readings) if device != CPU else _kernel(readings["known_process"])


def _flops(device: str, reading: PassReadings) -> Iterator[MeterCheck]:
    flop, macs = (reading.measurements.get(name) for name in ("forward_flop", "forward_macs"))
    yield compared(device, "FLOPs of a forward pass", flop, KNOWN_FORWARD_FLOP)
    doubled = 2 * macs if isinstance(macs, int) else 0
    yield compared(device, "twice its MACs", doubled, KNOWN_FORWARD_FLOP)
    notes = _texts(reading)
    yield MeterCheck(device, "two FLOP counters", notes or "agree", good=not notes)


def _estimate(device: str, readings: Mapping[str, PassReadings]) -> MeterCheck:
    """Compare the predicted peak with the counted one; on a GPU also with the allocated one."""
    estimated = readings["estimate"].measurements.get("peak_estimated_bytes")
    counted = readings["memory"].measurements.get("peak_counted_bytes")
    allocated = readings["memory"].measurements.get("peak_allocated_bytes")
    if device == CPU:
        return compared(device, "estimated peak", estimated, counted)
    if not (isinstance(estimated, int) and isinstance(counted, int)):
        return MeterCheck(device, "estimated peak", f"{estimated}, counted {counted}", good=False)
    highest = allocated if isinstance(allocated, int) else counted
    near = LEAST_SHARE_OF_COUNTED * counted <= estimated <= MOST_SHARE_OF_ALLOCATED * highest
    message = f"{estimated}, expected from {counted} (counted) to {highest} bytes (allocated)"
    return MeterCheck(device, "estimated peak", message, good=near)


def _workspaces(device: str, reading: PassReadings) -> MeterCheck:
    """Judge whether tensors and workspaces explain the allocator's peak.

    The memory pass compares them, and notes a difference. Where workspaces cannot be told from
    other memory, the allocator's peak must at least hold the counted tensors.
    """
    what, read = "counted, workspaces and allocated", reading.measurements
    names = ("peak_counted_bytes", "workspace_bytes", "peak_allocated_bytes")
    counted, workspaces, allocated = (read.get(name) for name in names)
    if not isinstance(allocated, int):
        return MeterCheck(device, what, "the allocator reports no peak: nothing to compare")
    if isinstance(workspaces, int):
        notes = _texts(reading)
        return MeterCheck(device, what, notes or "agree within 1 %", good=not notes)
    message = f"allocated {allocated}, counted {counted} bytes; workspaces are not known here"
    return MeterCheck(device, what, message, good=isinstance(counted, int) and counted <= allocated)


def _order(device: str, readings: Mapping[str, PassReadings]) -> MeterCheck:
    """Judge whether a caching allocator's numbers contain each other."""
    what, read = "allocated, reserved and process", readings["memory"].measurements
    process = readings["process"].measurements.get("peak_process_bytes")
    sizes = [read.get("peak_allocated_bytes"), read.get("peak_reserved_bytes"), process]
    known = [size for size in sizes if isinstance(size, int)]
    message = " <= ".join("not known" if size is None else str(size) for size in sizes)
    return MeterCheck(
        device, what, f"{message} bytes", good=known == sorted(known) if known[1:] else None
    )


def _kernel(reading: PassReadings) -> MeterCheck:
    what, size = "kernel's high-water mark", reading.measurements.get("peak_process_bytes")
    if not isinstance(size, int):
        reasons = {metric: absence.text for metric, absence in reading.missing.items()}
        return MeterCheck(CPU, what, str(reasons))
    near = abs(size - KNOWN_BYTES) <= KERNEL_GRAIN_BYTES
    return MeterCheck(CPU, what, f"{size}, expected {KNOWN_BYTES} bytes", good=near)


def _texts(reading: PassReadings) -> str:
    return "; ".join(note.text for note in reading.notes)
