"""One trial: its passes, what can happen to each, and the record they make together."""

import traceback
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from statistics import median
from typing import Any

import torch

from harness.devices import open_device
from harness.errors import BadInput
from harness.method import Unsupported
from harness.profiler import PASSES
from harness.record import METRICS, Outcome, Status, TrialRecord, Value
from harness.spec import TrialSpec
from harness.training import Diverged, Loader
from harness.workload import data, models, weights

CLOCK = "clock"
PROFILE_PASSES = (CLOCK, "memory", "process", "flops")
TIMED = ("step_seconds", "images_per_second", "evaluation_seconds", "evaluation_images_per_second")
OUT_OF_MEMORY_MESSAGES = ("can't allocate memory", "not enough memory", "out of memory")


@dataclass(frozen=True)
class PassResult:
    """How one pass ended and what it read, as plain values that go through a pipe.

    Attributes:
        status: a ``Status`` value.
        reason: why, if it did not complete.
        bad_input: the reason is a message for the person at the keyboard.
        reading: the fields of ``profiler.Reading``.
        device: what the device says of itself.
        start_seconds: from asking for the pass to its first line running.
    """

    status: str = Status.COMPLETED
    reason: str = ""
    bad_input: bool = False
    reading: dict[str, Any] = field(default_factory=dict)
    device: dict[str, Any] = field(default_factory=dict)
    start_seconds: float | None = None


def passes_of(spec: TrialSpec) -> list[str]:
    """Return the passes a trial consists of, in the order they run."""
    return [*(PROFILE_PASSES if spec.profile else ()), *(["training"] if spec.training else ())]


def perform(pass_name: str, spec_json: str, load: Loader) -> dict[str, Any]:
    """Run one pass in this process and return a ``PassResult`` as a dictionary; never raises."""
    spec = TrialSpec.model_validate_json(spec_json)
    torch.set_num_threads(spec.workload.threads)
    try:
        reading = PASSES[pass_name](spec, load)
        device = open_device(spec.workload.device).describe()
        return asdict(PassResult(reading=asdict(reading), device=device))
    except Exception as error:  # noqa: BLE001 - every way to fail becomes an outcome here
        return asdict(_failure(error))


def _failure(error: Exception) -> PassResult:
    if isinstance(error, BadInput):
        return PassResult(Status.CRASHED, str(error), bad_input=True)
    if isinstance(error, Unsupported):
        return PassResult(Status.UNSUPPORTED, str(error))
    if isinstance(error, Diverged):
        return PassResult(Status.DIVERGED, str(error))
    if _is_out_of_memory(error):
        return PassResult(Status.OUT_OF_MEMORY, str(error).splitlines()[0])
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{where.filename.rpartition('/')[2]}:{where.lineno}"
    return PassResult(Status.CRASHED, f"{type(error).__name__}: {error} (at {place})")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and any(part in said for part in OUT_OF_MEMORY_MESSAGES)


def check(spec_json: str, load: Loader) -> dict[str, Any]:
    """Look for what would make every pass of a trial fail; fetch its weights.

    Runs in a process of its own before anything is measured. Returns a ``PassResult``.
    """
    spec = TrialSpec.model_validate_json(spec_json)
    workload = spec.workload
    try:
        open_device(workload.device)
        load(spec.method, **spec.options)
        weights.fetch(workload.weights)
        images = data.load(workload.data, workload.classes, spec.seed)
        models.build(workload, images.classes, spec.seed)
    except Exception as error:  # noqa: BLE001 - as in perform
        return asdict(_failure(error))
    return asdict(PassResult())


def make_record(
    key: str, spec: TrialSpec, results: dict[str, PassResult], environment: dict[str, Any]
) -> tuple[TrialRecord, dict[str, Any]]:
    """Put the passes of a trial together into its record and its sidecar.

    The outcome is that of the first pass that did not complete. What the others measured is kept.
    """
    failed = [(name, r) for name, r in results.items() if r.status != Status.COMPLETED]
    status, reason = Status.COMPLETED, ""
    if failed:
        status, reason = Status(failed[0][1].status), f"{failed[0][0]} pass: {failed[0][1].reason}"
    readings = [result.reading for result in results.values() if result.reading]
    measured: dict[str, Value] = {}
    missing: dict[str, str] = {}
    for reading in readings:
        measured |= reading["measurements"]
        missing |= reading["missing"]
    measured |= _derived(measured, spec)
    device = next((result.device for result in results.values() if result.device), {})
    started = [r.start_seconds for r in results.values() if r.start_seconds is not None]
    record = TrialRecord(
        key=key,
        spec=spec,
        outcome=Outcome(status=status, reason=reason),
        measurements={name: measured.get(name) for name in METRICS},
        missing=missing | _reasons(measured, missing, spec, reason),
        notes=[note for reading in readings for note in reading["notes"]],
        environment=environment | {"device": device, "pass_start_seconds": started},
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    detail: dict[str, Any] = {}
    for reading in readings:
        detail |= reading["detail"]
    return record, detail


def stored_result(record: TrialRecord) -> PassResult:
    """Return what a stored record measured apart from time, as if a pass had just read it."""
    kept = {
        name: value
        for name, value in record.measurements.items()
        if value is not None and name not in TIMED
    }
    explained = {name: why for name, why in record.missing.items() if name not in TIMED}
    reading = {"measurements": kept, "missing": explained, "notes": record.notes, "detail": {}}
    device = record.environment.get("device", {})
    return PassResult(record.outcome.status, record.outcome.reason, reading=reading, device=device)


def _derived(measured: dict[str, Value], spec: TrialSpec) -> dict[str, Value]:
    derived: dict[str, Value] = {}
    for seconds, rate in (
        ("step_seconds", "images_per_second"),
        ("evaluation_seconds", "evaluation_images_per_second"),
    ):
        samples = measured.get(seconds)
        if isinstance(samples, list) and samples:
            derived[rate] = spec.workload.batch / median(samples)
    return derived


def _reasons(
    measured: dict[str, Value], explained: dict[str, str], spec: TrialSpec, failure: str
) -> dict[str, str]:
    """Say of every metric without a value why it has none."""
    of_training = {"accuracy_top1", "training_seconds", "final_loss"}
    reasons = {}
    for name in METRICS:
        if measured.get(name) is not None or name in explained:
            continue
        if name == "validation_accuracy_top1" or (
            name == "accuracy_top1" and spec.training and spec.training.evaluate == "validation"
        ):
            reasons[name] = "not read: only one split is read a trial"
        elif name in of_training and spec.training is None:
            reasons[name] = "not asked for: this trial only profiles"
        elif name not in of_training and spec.profile is None:
            reasons[name] = "not asked for: this trial only trains; the profile is its own trial"
        else:
            reasons[name] = failure or f"this meter does not exist for {spec.workload.device}"
    return reasons
