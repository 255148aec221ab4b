"""What a trial leaves behind: spec, outcome, measurements, environment."""

from enum import StrEnum
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from harness.metrics import METRICS
from harness.spec import Frozen, TrialSpec

SCHEMA_VERSION: Final = 4


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


class TrialRecord(Frozen):
    """One trial, whole: nothing in it depends on another file.

    Attributes:
        key: trial id, source fingerprint and machine id, joined; the file's name.
        measurements: a value for every name in ``METRICS``; ``None`` has its reason in ``missing``.
        notes: what a reader of the numbers must know (what a meter could not count, doubts).
        environment: machine, device, versions, commit, round group, what the method said.
        finished_at: UTC, ISO 8601.
    """

    schema_version: Literal[4] = SCHEMA_VERSION
    key: str
    spec: TrialSpec
    outcome: Outcome
    measurements: dict[str, Value]
    missing: dict[str, str]
    notes: list[str] = []
    environment: dict[str, Any]
    finished_at: str

    @model_validator(mode="after")
    def _every_metric_has_a_value_or_a_reason(self) -> "TrialRecord":
        if strange := set(self.measurements) - set(METRICS):
            raise ValueError(f"unknown metrics {sorted(strange)}")
        empty = {name for name in METRICS if self.measurements.get(name) is None}
        if unexplained := empty - set(self.missing):
            raise ValueError(f"no value and no reason for {sorted(unexplained)}")
        return self

    def label(self) -> str:
        """Return how reports call this row."""
        return self.spec.label()
