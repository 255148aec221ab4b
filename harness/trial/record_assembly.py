"""Assemble the record of a trial from the results of its passes."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec
from msgspec.structs import replace

from bsrbench.harness.method import NOTED_FACTS
from bsrbench.harness.plain_data import tidied
from bsrbench.harness.profiler.clock_visits import COMPILE_SECONDS
from bsrbench.harness.records.metric_bounds import CURVE, fault_of_curve, fault_of_value
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import (
    Measured,
    PassReadings,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.record_decoder import as_stored
from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.trial_environment import RanIn
from bsrbench.harness.records.trial_record import (
    Outcome,
    Status,
    TimesByKey,
    TrialRecord,
    Value,
    utc_now,
)
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.trial.absences import why_empty
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.visible_text import visible

TIMED = frozenset(name for name, metric in METRICS.items() if metric.is_timed())
# Over all methods and models tried (results/), a CPU process needed 8 to 27 MiB beyond its
# tensors. A larger residual gets a note, because it has a cause that is worth finding.
RESIDUAL_BYTES, RESIDUAL_SHARE = 32 * 2**20, 0.02
KERNEL_GRAIN_BYTES = 2**20  # tolerance of the kernel's high-water mark: pages, small blocks


def make_record(
    key: str,
    spec: TrialSpec,
    results: dict[str, PassResult],
    ran_in: RanIn,
    beside: TimesByKey | None = None,
) -> tuple[TrialRecord, Sidecar]:
    """Assemble the record and the sidecar of a trial from its passes.

    The trial has the outcome of the first pass that did not complete. The measurements of the
    other passes are kept.

    Args:
        key: key of the record.
        spec: the trial.
        results: pass name -> result.
        ran_in: the environment and circumstances of the run.
        beside: times of stored trials that were timed in turns with this one, by record key.
    """
    status, reason = _outcome(results)
    together = joined_readings(result.readings() for result in results.values())
    values = {**together.measurements, **_derived(together.measurements, spec)}
    refused = _refused(values)
    measured = {name: value for name, value in values.items() if name not in refused}
    explained = {**together.missing, **refused}
    said = _noted(_said_by_method(results.values()))
    notes = [*together.notes, *_doubts(measured, spec), *said]
    where = _where(ran_in, list(results.values()), together)
    record = TrialRecord(
        key=key,
        spec=spec,
        outcome=Outcome(status=status, reason=visible(reason)),
        measurements={name: _in_a_record(measured.get(name)) for name in METRICS},
        missing={**explained, **_unexplained(measured, explained, spec, reason)},
        notes=tuple(dict.fromkeys(notes)),
        environment=where.environment,
        circumstances=where.circumstances,
        finished_at=utc_now(),
        beside=beside or {},
        began_at=_began_at(list(results.values())),
    )
    return as_stored(record), together.detail


def _in_a_record(value: Measured) -> Value:
    if isinstance(value, Sequence):
        samples: list[float] = [*value]
        return samples
    return value


def _outcome(results: dict[str, PassResult]) -> tuple[Status, str]:
    """Return the outcome of the first pass that did not complete; else ``completed``."""
    for name, result in results.items():
        if result.status != Status.COMPLETED:
            return Status(result.status), f"{name} pass: {result.reason}"
    return Status.COMPLETED, ""


def _refused(measured: Mapping[str, Measured]) -> dict[str, Absence]:
    """Return the values that a record must not contain, and why."""
    faults = {
        name: fault
        for name, value in measured.items()
        if value is not None and (fault := fault_of_value(name, value))
    }
    curve = [measured.get(name) for name in CURVE]
    if not faults.keys() & set(CURVE) and (fault := fault_of_curve(curve)):
        faults |= {name: fault for name in CURVE if measured.get(name) is not None}
    return {
        name: Absence(AbsenceKind.REJECTED, f"was measured, and {fault}")
        for name, fault in faults.items()
    }


def _where(ran_in: RanIn, results: Sequence[PassResult], together: PassReadings) -> RanIn:
    """Return where a trial ran, completed with what its passes reported."""
    device = next((result.device for result in results if result.device), {})
    return RanIn(
        replace(
            ran_in.environment,
            device=tidied(device),
            method=tidied(_said_by_method(results)),
            workload=tidied(msgspec.to_builtins(together.facts) or {}),
            set_by_method=tidied(_set_by_method(results)),
            attention_kernel=together.attention_kernel,
        ),
        replace(
            ran_in.circumstances,
            pass_start_seconds=tuple(_known(r.start_seconds for r in results)),
            passes_seconds=round(sum(_known(r.seconds for r in results)), 1),
        ),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _set_by_method(results: Iterable[PassResult]) -> dict[str, str]:
    """Return the settings that the method changed, in any pass."""
    return {name: value for r in results for name, value in r.set_by_method.items()}


def _began_at(results: list[PassResult]) -> str | None:
    """Return when the first pass began; ``None`` if any pass did not record it."""
    began = [result.began_at for result in results]
    known = [at for at in began if at is not None]
    if not known or len(known) < len(began):
        return None
    trained = [result.readings().detail.training_began_at for result in results]
    return min([*known, *(at for at in trained if at is not None)])


def _said_by_method(results: Iterable[PassResult]) -> dict[str, Any]:
    """Return the method's facts; of each fact, the value from the first pass that states it."""
    facts: dict[str, Any] = {}
    for result in results:
        facts = {**result.method, **facts}
    return facts


def _noted(method: Mapping[str, Any]) -> tuple[Note, ...]:
    """Return the facts of a method that become notes."""
    return notes_of(NoteKind.METHOD, [str(method[key]) for key in NOTED_FACTS if key in method])


def _doubts(measured: Mapping[str, Measured], spec: TrialSpec) -> tuple[Note, ...]:
    """Return notes on numbers of different passes that do not agree."""
    names = ("residual_bytes", "peak_allocated_bytes", "workspace_bytes")
    residual, allocated, workspace = (measured.get(name) for name in names)
    if spec.workload.device != "cpu" or not isinstance(residual, int):
        return ()
    cause = ""
    if residual > RESIDUAL_BYTES + RESIDUAL_SHARE * _number(allocated):
        cause = (
            "the process took more than its tensors and libraries explain (another thread's "
            "tensors, or memory that torch's allocator does not see)"
        )
    # oneDNN allocates more for a convolution's backward pass than it touches; the kernel does not
    # provide untouched pages.
    elif residual < -_number(workspace) - KERNEL_GRAIN_BYTES:
        cause = (
            "the process took less than was allocated, and workspaces that were never touched do "
            "not explain it"
        )
    doubts = [f"residual of {residual} bytes: {cause}"] if cause else []
    return notes_of(NoteKind.MEMORY, doubts)


def _number(value: Measured) -> int:
    return value if isinstance(value, int) else 0


def _derived(measured: Mapping[str, Measured], spec: TrialSpec) -> dict[str, Measured]:
    derived: dict[str, Measured] = {}
    spent = measured.get(COMPILE_SECONDS)
    if isinstance(spent, Sequence) and spent:  # one per visit; later visits reuse the compiled code
        derived[COMPILE_SECONDS] = max(spent)
    for seconds, rate in (
        ("step_seconds", "images_per_second"),
        ("evaluation_seconds", "evaluation_images_per_second"),
    ):
        samples = measured.get(seconds)
        if isinstance(samples, Sequence) and samples and median(samples) > 0:
            derived[rate] = spec.workload.step_images() / median(samples)
    taken, allocated = measured.get("peak_process_bytes"), measured.get("peak_allocated_bytes")
    if isinstance(taken, int) and isinstance(allocated, int):
        derived["residual_bytes"] = taken - allocated
    on_cpu = spec.workload.device == "cpu"
    real = measured.get("peak_counted_bytes" if on_cpu else "peak_allocated_bytes")
    estimated = measured.get("peak_estimated_allocated_bytes")
    if estimated is None:
        estimated = measured.get("peak_estimated_bytes")
    if isinstance(real, int) and real and isinstance(estimated, int):
        derived["estimate_error"] = estimated / real - 1
    return derived


def _unexplained(
    measured: Mapping[str, Measured],
    explained: Mapping[str, Absence],
    spec: TrialSpec,
    failure: str,
) -> dict[str, Absence]:
    """Return the reason of every metric that has neither a value nor a reason yet."""
    empty = [n for n in METRICS if measured.get(n) is None and n not in explained]
    return {name: why_empty(METRICS[name], spec, failure) for name in empty}
