"""What one pass read, as plain values."""

from dataclasses import dataclass, field
from typing import Any

from bsrbench.harness.records.trial_record import Value


@dataclass(frozen=True)
class PassReadings:
    """What one pass read.

    Attributes:
        measurements: metric -> value.
        missing: metric -> why there is no value.
        notes: what a reader of the numbers must know.
        detail: what goes into the sidecar file.
        facts: what the record's environment says of the workload.
        attention_kernel: which operators computed attention; ``None`` where the pass did not look.
    """

    measurements: dict[str, Value] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    attention_kernel: str | None = None
