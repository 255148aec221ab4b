"""What a trial leaves behind: spec, outcome, measurements, environment."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.metric_bounds import fault_of_values
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_content import CHANGED
from bsrbench.harness.spec.frozen_data import Frozen
from bsrbench.harness.spec.trial_spec import TrialSpec

SCHEMA_VERSION: Final = 7


class Status(StrEnum):
    """How a trial ended; all but ``completed`` are results too and stay in the report."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out of memory"
    UNSUPPORTED = "unsupported"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class Outcome(Frozen):
    """How a trial ended, and why if it did not complete."""

    status: Status = Field(strict=False)
    reason: str = ""


Value = int | float | list[float] | list[int] | None
TimesByKey = dict[str, dict[str, list[float]]]  # a record's key -> metric -> samples


# What reports read of an environment, and its types; the rest is shown as it is.
ENVIRONMENT: dict[str, tuple[type, ...]] = {
    "machine_id": (str,),
    "machine": (dict,),
    "versions": (dict,),
    "commit": (str, type(None)),
    "tree_dirty": (bool, type(None)),
    "round_group": (str,),
    "suite_place": (int,),
    "attention_kernel": (str,),
    **dict.fromkeys(("device", "method", "workload", "timing", "limits"), (dict,)),
    **dict.fromkeys(("settings", "set_by_method", "circumstances"), (dict,)),
}


def utc_now() -> str:
    """Return the time as records hold it, to the millisecond: of two records one is the newer."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def fault_of(environment: dict[str, Any]) -> str:
    """Return what a report could not read of an environment; empty if it can."""
    if "machine_id" not in environment:
        return "environment.machine_id is missing"
    return wrong_in(environment)


def wrong_in(environment: dict[str, Any]) -> str:
    """Return what a report could not read of some of an environment's values; empty if it can."""
    for name, kinds in ENVIRONMENT.items():
        if name in environment and type(environment[name]) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            return f"environment.{name} is {environment[name]!r:.60}, expected {expected}"
    machine = environment.get("machine", {})
    if type(machine.get("memory_bytes", 0)) is not int:
        return (
            f"environment.machine.memory_bytes is {machine['memory_bytes']!r:.60}, expected bytes"
        )
    sets = machine.get("instruction_sets", [])
    if type(sets) is not list or not all(type(name) is str for name in sets):
        return f"environment.machine.instruction_sets is {sets!r:.60}, expected names"
    return ""


class TrialRecord(Frozen):
    """One trial, whole: nothing in it depends on another file.

    Attributes:
        key: method, trial id, hash of the method's source, hash of the source that measures, hash
            of settings and versions that decide numbers, and machine id, joined
            (``bsrbench.harness.records.record_key``); the file's name.
        measurements: a value for every name in ``METRICS``; ``None`` has its reason in ``missing``.
        notes: what a reader of the numbers must know (what a meter could not count, doubts).
        environment: machine, device, versions, commit, round group, what the method said; the
            ``settings`` that decide numbers, those of them that were ``set_by_method``, the
            ``attention_kernel``, and the ``circumstances`` that only disturb times.
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

    # Not refused: a record is what was measured, and is read alike quickly and thoroughly.
    model_config = ConfigDict(allow_inf_nan=True)

    schema_version: Literal[7] = SCHEMA_VERSION
    key: str
    spec: TrialSpec
    outcome: Outcome
    measurements: dict[str, Value]
    missing: dict[str, str]
    notes: list[str] = []
    environment: dict[str, Any]
    finished_at: str
    beside: TimesByKey = {}
    began_at: str | None = None
    content_sha256: str | None = None

    @model_validator(mode="after")
    def _can_be_reported(self) -> "TrialRecord":
        timed = {name for times in self.beside.values() for name in times}
        if strange := (set(self.measurements) | timed) - set(METRICS):
            raise ValueError(f"unknown metrics {sorted(strange)}")
        empty = {name for name in METRICS if self.measurements.get(name) is None}
        if unexplained := empty - set(self.missing):
            raise ValueError(f"no value and no reason for {sorted(unexplained)}")
        if fault := (
            fault_of(self.environment)
            or fault_in(self.environment, "environment")
            or fault_of_values(self.measurements)
            or fault_in(self.beside, "beside")
        ):
            raise ValueError(fault)
        return self

    def __eq__(self, other: object) -> bool:
        """Tell whether two records say the same; hashes are of how they stand in their files."""
        if not isinstance(other, TrialRecord):
            return NotImplemented
        ours, theirs = self.__dict__, other.__dict__
        return all(ours[name] == theirs[name] for name in SAID)

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    def changed(self) -> bool:
        """Return whether its content is not what was stored."""
        return CHANGED in self.notes

    def measured(self) -> int:
        """Return how many metrics have a value."""
        return sum(value is not None for value in self.measurements.values())

    def label(self) -> str:
        """Return how reports call this row."""
        return self.spec.label()


SAID = tuple(name for name in TrialRecord.model_fields if name != "content_sha256")
