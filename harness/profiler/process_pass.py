"""The process pass: the peak memory of the process."""

import gc

import torch
from torch import Tensor, nn

from bsrbench.harness.devices import open_device
from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters import process_memory
from bsrbench.harness.profiler.profiled_step import job_and_batch
from bsrbench.harness.records.pass_readings import PassReadings, absent, notes_of
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Job, Loader
from bsrbench.harness.training.kept_storages import total_bytes
from bsrbench.harness.training.training_step import training_step

METRIC = "peak_process_bytes"
THIS_PROCESS = "driver, this process"
KNOWN_BYTES = 64 * 2**20
READ_STEPS = 2
NEIGHBOUR_BYTES = 16 * 2**20  # the driver's granularity, and kernels that are loaded late
WARMUP_STEPS = 2  # the first step makes the optimizer's state and loads the libraries' kernels


def process_pass(spec: TrialSpec, load: Loader) -> PassReadings:
    """Read the peak memory of the process in a steady step, minus the level before the model."""
    on_cpu = open_device(spec.workload.device).torch_device.type == "cpu"
    try:
        return _from_kernel(spec, load) if on_cpu else _from_driver(spec, load)
    except Unreadable as reason:
        return absent(AbsenceKind.UNREADABLE, str(reason), METRIC)


def known_process_pass(spec: TrialSpec, load: Loader) -> PassReadings:  # noqa: ARG001 - as all passes
    """Read the high-water mark for ``KNOWN_BYTES`` that are allocated and freed."""
    try:
        process_memory.pin_malloc()
        _take_and_give_back()  # the first call also loads code into memory
        process_memory.reset_high_water()
        before = process_memory.resident_bytes()
        _take_and_give_back()
        return PassReadings({METRIC: process_memory.high_water_bytes() - before})
    except Unreadable as reason:
        return absent(AbsenceKind.UNREADABLE, str(reason), METRIC)


def _take_and_give_back() -> None:
    torch.empty(KNOWN_BYTES, dtype=torch.uint8).fill_(1)


def _from_kernel(spec: TrialSpec, load: Loader) -> PassReadings:
    process_memory.pin_malloc()
    _touch_libraries()
    before = process_memory.resident_bytes()
    job, batch = job_and_batch(spec, load, WARMUP_STEPS)
    if spec.workload.compiled_step:
        before = _level_without(job, batch)
    process_memory.reset_high_water()
    for _ in job.current.in_each_state():
        training_step(job, *batch)
    peak = process_memory.high_water_bytes() - before
    return PassReadings({METRIC: peak}, detail=Sidecar(process_baseline_bytes=before))


def _level_without(job: Job, batch: tuple[Tensor, Tensor]) -> int:
    """Return the resident size minus all that lives between steps.

    It includes the memory that the compiler has left behind.
    """
    gc.collect()
    process_memory.trim_malloc()
    return process_memory.resident_bytes() - total_bytes(job.between_steps(batch))


def _from_driver(spec: TrialSpec, load: Loader) -> PassReadings:
    """Read the driver's number after the step.

    It is the peak, because the allocator gives no memory back to the device.
    """
    device = open_device(spec.workload.device)
    before = device.used_bytes()
    job, batch = job_and_batch(spec, load, WARMUP_STEPS)
    readings = []
    for _ in range(READ_STEPS):
        for _ in job.current.in_each_state():
            training_step(job, *batch)
        device.synchronise()
        readings.append(device.used_bytes())
    after = readings[0]
    if after.of == "process":
        source = Sidecar(process_read_from=THIS_PROCESS)
        return PassReadings({METRIC: after.bytes}, detail=source)
    if before.of != "device":
        reason = "the driver stopped reporting the memory of this process"
        return absent(AbsenceKind.UNREADABLE, reason, METRIC)
    label = (
        f"{METRIC} is the rise of the device's total use: the driver does not report the "
        "memory of each process here, and other processes would be included"
    )
    return PassReadings(
        {METRIC: after.bytes - before.bytes},
        notes=notes_of(NoteKind.MEMORY, [label, *_neighbours(readings)]),
        detail=Sidecar(process_baseline_bytes=before.bytes, process_read_from="driver, device"),
    )


def _neighbours(readings: list[MemoryUse]) -> list[str]:
    """Return a sentence if the device's use changed by more than this process's reserve did."""
    others = [reading.bytes - reading.reserved for reading in readings]
    change = max(others) - min(others)
    if change <= NEIGHBOUR_BYTES or any(reading.of != "device" for reading in readings):
        return []
    doubt = (
        f"between two steps the device's use changed by {change} bytes that this process did not "
        f"reserve: another process used the device, and {METRIC} may include its memory"
    )
    return [doubt]


def _touch_libraries() -> None:
    """Run a small step with all operators of a transformer, to load their code into memory."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 4, 4), nn.Flatten(2), nn.LayerNorm(16), nn.Linear(16, 64)
    )
    x = layers(torch.ones(2, 3, 16, 16)).unsqueeze(1)
    mixed = nn.functional.scaled_dot_product_attention(x, x, x)
    nn.functional.cross_entropy(
        nn.functional.gelu(mixed).mean((1, 2)), torch.tensor([0, 1])
    ).backward()
    torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9).step()
