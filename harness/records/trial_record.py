"""The record of a trial: spec, outcome, measurements, environment and circumstances."""

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
    """How a trial ended. Trials that did not complete are results too and stay in the report."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out of memory"
    UNSUPPORTED = "unsupported"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a trial ended; if it did not complete, also the reason."""

    status: Status
    reason: str = ""


Value = int | float | list[int | float] | None
TimesByKey = dict[str, dict[str, list[float]]]  # a record's key -> metric -> samples


def utc_now() -> str:
    """Return the current time in the form of records: UTC, ISO 8601.

    It has milliseconds, so that it is clear which of two records is newer.
    """
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class TrialRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The complete record of one trial; it does not depend on other files.

    Attributes:
        schema_version: version of the format of records.
        key: name of the record's file, without ``.json``. It joins the method, the trial id, the
            hash of the method's source, the hash of the measuring code, the hash of settings and
            versions that affect numbers, and the machine id
            (``bsrbench.harness.records.record_key``).
        spec: the specification of the trial.
        outcome: how the trial ended.
        measurements: a value for every name in ``METRICS``; if it is ``None``, ``missing`` has the
            reason. A stored file lacks the metrics that are newer than it.
        missing: metric -> why it has no value.
        notes: what a reader of the numbers must know: doubts, and what a meter could not count.
        environment: what can affect the numbers besides the spec.
        circumstances: what can affect times, but no other number.
        finished_at: when the trial ended, UTC, ISO 8601.
        beside: times of stored rows that were timed again in the round group of this record: key
            of the stored record -> metric -> samples. Ratios of times between this row and those
            rows are computed from these samples.
        began_at: when the first of this trial's passes began, UTC, ISO 8601. If the run was
            interrupted and resumed, this is before the interruption. ``None`` if it was not stored
            (schema 5 and older).
        content_sha256: hash of all other content of the record when it was stored. It shows
            whether a number was changed later by accident; somebody who changes a record on
            purpose can also change the hash. ``None`` in a record that is not stored yet, and in
            records of schema 6 and older.
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
        if unknown := (self.measurements.keys() | timed) - METRICS.keys():
            raise ValueError(f"unknown metrics {sorted(unknown)}")
        empty = {name for name, value in self.measurements.items() if value is None}
        if unexplained := empty - self.missing.keys():
            raise ValueError(f"no value and no reason for {sorted(unexplained)}")
        if fault := fault_of_values(self.measurements) or fault_in(self.beside, "beside"):
            raise ValueError(fault)

    def __eq__(self, other: object) -> bool:
        """Return whether two records have the same content; ``content_sha256`` is not compared."""
        if not isinstance(other, TrialRecord):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in COMPARED)

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    def changed(self) -> bool:
        """Return whether the record was changed after it was stored."""
        return any(note.kind is NoteKind.INTEGRITY for note in self.notes)

    def measured(self) -> int:
        """Return how many metrics have a value."""
        return sum(value is not None for value in self.measurements.values())

    def label(self) -> str:
        """Return the name of this row in reports."""
        return self.spec.label()


COMPARED = tuple(name for name in TrialRecord.__struct_fields__ if name != "content_sha256")


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

    types = msgspec.json.schema(TrialRecord, schema_hook=spec_reference)["$defs"]
    record: dict[str, Any] = types.pop(TrialRecord.__name__)
    return record | {"$defs": types | of_spec | {TrialSpec.__name__: spec}}


def _plain_spec(value: Any) -> Any:
    """Return a spec as JSON data; it is a pydantic model, which msgspec cannot write."""
    if isinstance(value, TrialSpec):
        return value.model_dump(mode="json")
    raise NotImplementedError(type(value).__name__)
