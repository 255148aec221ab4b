"""What one pass read, as values that never change."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.sidecar import Sidecar, joined_sidecars

Measured = int | float | Sequence[int | float] | None  # samples are a sequence


class WorkloadFacts(msgspec.Struct, frozen=True):
    """What a record's environment says of the workload that was trained.

    Attributes:
        weights: of those that the model began with.
        data: of the images; of several tasks, by their names.
    """

    weights: Mapping[str, Any]
    data: Mapping[str, Any]


class DeviceSpeed(msgspec.Struct, frozen=True):
    """How fast a device is, and how much of its memory is free; ``None`` if it does not tell."""

    flop_per_second: float
    free_bytes: int | None = None


class PassReadings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one pass read.

    Attributes:
        measurements: metric -> value.
        missing: metric -> why there is no value.
        notes: what a reader of the numbers must know.
        detail: what goes into the sidecar file.
        facts: what the record's environment says of the workload; of a training pass.
        attention_kernel: which operators computed attention; ``None`` where the pass did not look.
        speed: of the device; of the speed pass.
    """

    measurements: Mapping[str, Measured]
    missing: Mapping[str, Absence] = {}
    notes: tuple[Note, ...] = ()
    detail: Sidecar = Sidecar()
    facts: WorkloadFacts | None = None
    attention_kernel: str | None = None
    speed: DeviceSpeed | None = None


NOTHING = PassReadings({})


def joined_readings(parts: Iterable[PassReadings]) -> PassReadings:
    """Return several readings as one: all notes in order; of two values of one name the later."""
    readings = list(parts)
    kernels = [part.attention_kernel for part in readings if part.attention_kernel is not None]
    facts = [part.facts for part in readings if part.facts is not None]
    return PassReadings(
        measurements={name: v for part in readings for name, v in part.measurements.items()},
        missing={name: why for part in readings for name, why in part.missing.items()},
        notes=tuple(note for part in readings for note in part.notes),
        detail=joined_sidecars([part.detail for part in readings]),
        facts=facts[-1] if facts else None,
        attention_kernel=kernels[0] if kernels else None,
    )


def absent(kind: AbsenceKind, text: str, *metrics: str) -> PassReadings:
    """Return a reading that has none of some metrics, for one reason."""
    return PassReadings({}, dict.fromkeys(metrics, Absence(kind, text)))


def notes_of(kind: NoteKind, texts: Iterable[str]) -> tuple[Note, ...]:
    """Return texts as notes of one kind."""
    return tuple(Note(kind, text) for text in texts)
