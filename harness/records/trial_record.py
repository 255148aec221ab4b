"""What a trial leaves behind: spec, outcome, measurements, environment, circumstances."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.metric_bounds import fault_of_values
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.remarks import Absence, Note, NoteKind
from bsrbench.harness.records.trial_environment import Circumstances, Environment
from bsrbench.harness.spec.trial_spec import TrialSpec

SCHEMA_VERSION: Final = 8


class Status(StrEnum):
    """How a trial ended; all but ``completed`` are results too and stay in the report."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out of memory"
    UNSUPPORTED = "unsupported"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a trial ended, and why if it did not complete."""

    status: Status
    reason: str = ""


Value = int | float | list[int | float] | None
TimesByKey = dict[str, dict[str, list[float]]]  # a record's key -> metric -> samples


def utc_now() -> str:
    """Return the time as records hold it, to the millisecond: of two records one is the newer."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class TrialRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One trial, whole: nothing in it depends on another file.

    Attributes:
        key: method, trial id, hash of the method's source, hash of the measuring code, hash
            of settings and versions that decide numbers, and machine id, joined
            (``bsrbench.harness.records.record_key``); the file's name.
        measurements: a value for every name in ``METRICS``; ``None`` has its reason in ``missing``.
            A stored record lacks the metrics that are newer than it.
        missing: why metrics have no value.
        notes: what a reader of the numbers must know (what a meter could not count, doubts).
        environment: what may decide the numbers beside the spec.
        circumstances: what may disturb times and decides no other number.
        finished_at: UTC, ISO 8601.
        beside: times of rows that were stored before and timed again in this record's round group:
            key of their record -> metric -> samples. Ratios between this row and them are taken
            from these.
        began_at: when the first of the passes began whose numbers these are, UTC, ISO 8601, before
            an interruption if there was one; ``None`` where that was not kept (schema 5 and
            before).
        content_sha256: hash of the record's own content as it was stored, all but this; by it a
            number that was changed later is noticed. It detects accidents: whoever means to
            deceive can compute it anew. ``None`` in a record that was not stored yet, or has
            schema 6 or before.
    """

    schema_version: Literal[8] = SCHEMA_VERSION
    key: str
    spec: TrialSpec
    outcome: Outcome
    measurements: dict[str, Value]
    missing: dict[str, Absence]
    notes: tuple[Note, ...] = ()
    environment: Environment
    circumstances: Circumstances = Circumstances()
    finished_at: str
    beside: TimesByKey = {}
    began_at: str | None = None
    content_sha256: str | None = None

    def __post_init__(self) -> None:
        timed = {name for times in self.beside.values() for name in times}
        if strange := (self.measurements.keys() | timed) - METRICS.keys():
            raise ValueError(f"unknown metrics {sorted(strange)}")
        empty = {name for name, value in self.measurements.items() if value is None}
        if unexplained := empty - self.missing.keys():
            raise ValueError(f"no value and no reason for {sorted(unexplained)}")
        if fault := fault_of_values(self.measurements) or fault_in(self.beside, "beside"):
            raise ValueError(fault)

    def __eq__(self, other: object) -> bool:
        """Tell whether two records say the same; hashes are of how they stand in their files."""
        if not isinstance(other, TrialRecord):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in SAID)

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    def changed(self) -> bool:
        """Return whether its content is not what was stored."""
        return any(note.kind is NoteKind.INTEGRITY for note in self.notes)

    def measured(self) -> int:
        """Return how many metrics have a value."""
        return sum(value is not None for value in self.measurements.values())

    def label(self) -> str:
        """Return how reports call this row."""
        return self.spec.label()


SAID = tuple(name for name in TrialRecord.__struct_fields__ if name != "content_sha256")


def plain_record(record: TrialRecord) -> dict[str, Any]:
    """Return a record as JSON data, in the order of its fields."""
    data: dict[str, Any] = msgspec.to_builtins(record, enc_hook=_plain_spec)
    return data


def record_schema() -> dict[str, Any]:
    """Return the JSON schema of a record's file."""
    spec = TrialSpec.model_json_schema(ref_template="#/$defs/{model}")
    of_spec = spec.pop("$defs", {})

    def spec_reference(kind: type) -> dict[str, Any]:
        if kind is not TrialSpec:
            raise NotImplementedError(kind.__name__)
        return {"$ref": "#/$defs/TrialSpec"}

    named = msgspec.json.schema(TrialRecord, schema_hook=spec_reference)["$defs"]
    record: dict[str, Any] = named.pop(TrialRecord.__name__)
    return record | {"$defs": named | of_spec | {TrialSpec.__name__: spec}}


def _plain_spec(value: Any) -> Any:
    """Return what msgspec cannot write itself as JSON data: a spec is validated by pydantic."""
    if isinstance(value, TrialSpec):
        return value.model_dump(mode="json")
    raise NotImplementedError(type(value).__name__)
