"""What the passes of a trial read, put together into its record."""

from collections.abc import Iterable
from statistics import median
from typing import Any

from msgspec.structs import replace

from bsrbench.harness.plain_data import tidied
from bsrbench.harness.profiler.clock_pass import COMPILE_SECONDS
from bsrbench.harness.profiler.training_pass import TRAINING_BEGAN
from bsrbench.harness.records.metric_bounds import CURVE, fault_of_curve, fault_of_value
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.trial_environment import RanIn
from bsrbench.harness.records.trial_record import (
    Outcome,
    Status,
    TimesByKey,
    TrialRecord,
    Value,
    checked,
    utc_now,
)
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.absences import why_empty
from bsrbench.harness.trial.trial_passes import PassResult
from bsrbench.harness.visible_text import visible

TIMED = frozenset(name for name, metric in METRICS.items() if metric.is_timed())
TIMING = "timing: "  # begins what is noted about times
# What a CPU process needed beyond its tensors was 8 to 27 MiB over all methods and models tried
# (results/); more than this has a reason that somebody should look for.
RESIDUAL_BYTES, RESIDUAL_SHARE = 32 * 2**20, 0.02
KERNEL_GRAIN_BYTES = 2**20  # what the kernel's mark may miss: pages, small blocks


def make_record(
    key: str,
    spec: TrialSpec,
    results: dict[str, PassResult],
    ran_in: RanIn,
    beside: TimesByKey | None = None,
) -> tuple[TrialRecord, dict[str, Any]]:
    """Put the passes of a trial together into its record and its sidecar.

    The outcome is that of the first pass that did not complete. What the others measured is kept.

    Args:
        key: of the record.
        spec: the trial.
        results: of its passes, by their names.
        ran_in: where they ran, and under which circumstances.
        beside: times of stored trials that took turns with this one, by the key of their record.
    """
    status, reason = _outcome(results)
    readings = [result.reading for result in results.values() if result.reading]
    measured: dict[str, Value] = _put_together(r["measurements"] for r in readings)
    missing = {n: _unreadable(why) for r in readings for n, why in r["missing"].items()}
    measured |= _derived(measured, spec)
    missing |= _without_what_no_record_holds(measured)
    method = _said_by_method(results.values())
    notes = [_note(note) for reading in readings for note in reading["notes"]]
    notes += _doubts(measured, spec)
    if "fallback" in method:
        notes.append(Note(NoteKind.METHOD, visible(str(method["fallback"]))))
    facts = _put_together(r.get("facts", {}) for r in readings)
    device = next((result.device for result in results.values() if result.device), {})
    record = TrialRecord(
        key=key,
        spec=spec,
        outcome=Outcome(status=status, reason=visible(reason)),
        measurements={name: measured.get(name) for name in METRICS},
        missing=missing | _unexplained(measured, missing, spec, reason),
        notes=tuple(dict.fromkeys(notes)),
        environment=replace(
            ran_in.environment,
            device=tidied(device),
            method=tidied(method),
            workload=tidied(facts),
            set_by_method=tidied(_set_by_method(results.values())),
            attention_kernel=_attention_kernel(readings),
        ),
        circumstances=replace(
            ran_in.circumstances,
            pass_start_seconds=tuple(_known(r.start_seconds for r in results.values())),
            passes_seconds=round(sum(_known(r.seconds for r in results.values())), 1),
        ),
        finished_at=utc_now(),
        beside=beside or {},
        began_at=_began_at(list(results.values())),
    )
    return checked(record), _put_together(r["detail"] for r in readings)


def _outcome(results: dict[str, PassResult]) -> tuple[Status, str]:
    """Return how the first pass that did not complete ended, and why; or that all completed."""
    for name, result in results.items():
        if result.status != Status.COMPLETED:
            return Status(result.status), f"{name} pass: {result.reason}"
    return Status.COMPLETED, ""


def _put_together(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return all parts as one; of two values with one name the later counts."""
    return {name: value for part in parts for name, value in part.items()}


def _without_what_no_record_holds(measured: dict[str, Value]) -> dict[str, Absence]:
    """Take values out that cannot be reported, and return why, by metric."""
    refused = {
        name: fault
        for name, value in measured.items()
        if value is not None and (fault := fault_of_value(name, value))
    }
    curve = [measured.get(name) for name in CURVE]
    if not refused.keys() & set(CURVE) and (fault := fault_of_curve(curve)):
        refused |= {name: fault for name in CURVE if measured.get(name) is not None}
    measured |= dict.fromkeys(refused)
    rejected = AbsenceKind.REJECTED
    return {n: Absence(rejected, f"was measured, and {fault}") for n, fault in refused.items()}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _set_by_method(results: Iterable[PassResult]) -> dict[str, str]:
    """Return the settings that the method changed, in any pass."""
    return {name: value for r in results for name, value in r.set_by_method.items()}


def _attention_kernel(readings: Iterable[dict[str, Any]]) -> str | None:
    """Return the operators that computed attention, from the first pass that looked."""
    stated = (reading.get("attention_kernel") for reading in readings)
    return next((kernel for kernel in stated if kernel is not None), None)


def _began_at(results: list[PassResult]) -> str | None:
    """Return when the first pass began; nothing where that was not kept of each."""
    began = [result.began_at for result in results]
    known = [at for at in began if at is not None]
    if not known or len(known) < len(began):
        return None
    details = [result.reading.get("detail", {}) for result in results]
    before = [str(detail[TRAINING_BEGAN]) for detail in details if TRAINING_BEGAN in detail]
    return min([*known, *before])


def _said_by_method(results: Iterable[PassResult]) -> dict[str, Any]:
    """Return what the method said, of each thing what the first pass to mention it said."""
    facts: dict[str, Any] = {}
    for result in results:
        facts = result.method | facts
    return facts


def _doubts(measured: dict[str, Value], spec: TrialSpec) -> list[Note]:
    """Return what the passes' numbers together give reason to doubt."""
    names = ("residual_bytes", "peak_allocated_bytes", "workspace_bytes")
    residual, allocated, workspace = (measured.get(name) for name in names)
    if spec.workload.device != "cpu" or not isinstance(residual, int):
        return []
    said = ""
    if residual > RESIDUAL_BYTES + RESIDUAL_SHARE * _number(allocated):
        said = (
            "the process took more than its tensors and libraries explain (another thread's "
            "tensors, or memory that torch's allocator does not see)"
        )
    # oneDNN takes more for a convolution's backward than it touches: the kernel never gives it.
    elif residual < -_number(workspace) - KERNEL_GRAIN_BYTES:
        said = (
            "the process took less than was allocated, and workspaces that were never touched do "
            "not explain it"
        )
    return [Note(NoteKind.MEMORY, f"residual of {residual} bytes: {said}")] if said else []


def _note(text: str) -> Note:
    """Return a note that a pass made."""
    kind = NoteKind.TIMING if text.startswith(TIMING) else NoteKind.OTHER
    return Note(kind, visible(text.removeprefix(TIMING)))


def _unreadable(why: str) -> Absence:
    return Absence(AbsenceKind.UNREADABLE, visible(str(why)))


def _number(value: Value) -> int:
    return value if isinstance(value, int) else 0


def _derived(measured: dict[str, Value], spec: TrialSpec) -> dict[str, Value]:
    derived: dict[str, Value] = {}
    spent = measured.get(COMPILE_SECONDS)
    if isinstance(spent, list) and spent:  # a visit each; the later ones find the first one's code
        derived[COMPILE_SECONDS] = max(spent)
    for name, metric in METRICS.items():
        samples = measured.get(metric.rate_of)
        if isinstance(samples, list) and samples and median(samples) > 0:
            derived[name] = spec.workload.step_images() / median(samples)
    taken, allocated = measured.get("peak_process_bytes"), measured.get("peak_allocated_bytes")
    if isinstance(taken, int) and isinstance(allocated, int):
        derived["residual_bytes"] = taken - allocated
    on_cpu = spec.workload.device == "cpu"
    real = measured.get("peak_counted_bytes" if on_cpu else "peak_allocated_bytes")
    estimated = measured.get("peak_estimated_bytes")
    if isinstance(real, int) and real and isinstance(estimated, int):
        derived["estimate_error"] = estimated / real - 1
    return derived


def _unexplained(
    measured: dict[str, Value], explained: dict[str, Absence], spec: TrialSpec, failure: str
) -> dict[str, Absence]:
    """Say of every metric that has no value, and no reason yet, why it has none."""
    empty = [n for n in METRICS if measured.get(n) is None and n not in explained]
    return {name: why_empty(METRICS[name], spec, failure) for name in empty}
