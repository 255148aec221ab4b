"""The immutable result of one pass: measurements, reasons, notes and details."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.sidecar import Sidecar, joined_sidecars

Measured = int | float | Sequence[int | float] | None  # samples are a sequence


class WorkloadFacts(msgspec.Struct, frozen=True):
    """Facts about the trained workload, for the record's environment.

    Attributes:
        weights: facts about the initial weights of the model.
        data: facts about the images; with several tasks, by task name.
    """

    weights: Mapping[str, Any]
    data: Mapping[str, Any]


class DeviceSpeed(msgspec.Struct, frozen=True):
    """The speed of a device, and its free memory; ``None`` if the device does not report it."""

    flop_per_second: float
    free_bytes: int | None = None


class Calibration(msgspec.Struct, frozen=True):
    """How long parts of a trial take here, beside everything else that runs now.

    Attributes:
        step_seconds: seconds of an optimizer step after the first one.
        evaluation_seconds: seconds of an evaluation of the step's batch.
        actions_seconds: seconds of all steps and evaluations that were made.
        energy: whether the device has a counter of energy.
        load_seconds: seconds to open the data; 0 if nothing is trained.
        image_seconds: seconds to decode and prepare an image; 0 if nothing is trained.
    """

    step_seconds: float
    evaluation_seconds: float
    actions_seconds: float
    energy: bool = False
    load_seconds: float = 0.0
    image_seconds: float = 0.0


class PassReadings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The result of one pass.

    Attributes:
        measurements: metric -> value.
        missing: metric -> why there is no value.
        notes: what a reader of the numbers must know.
        detail: the part for the sidecar file.
        facts: facts about the workload; only from a training pass.
        attention_kernel: the operators that computed attention; ``None`` if not recorded.
        speed: speed of the device; only from the speed pass.
        calibration: how long parts of the trial take; only from the calibration pass.
    """

    measurements: Mapping[str, Measured]
    missing: Mapping[str, Absence] = {}
    notes: tuple[Note, ...] = ()
    detail: Sidecar = Sidecar()
    facts: WorkloadFacts | None = None
    attention_kernel: str | None = None
    speed: DeviceSpeed | None = None
    calibration: Calibration | None = None


NOTHING = PassReadings({})


def joined_readings(parts: Iterable[PassReadings]) -> PassReadings:
    """Join several readings: notes in order; if a metric has two values, the later one."""
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
    """Return a reading in which some metrics are missing, all for the same reason."""
    return PassReadings({}, dict.fromkeys(metrics, Absence(kind, text)))


def notes_of(kind: NoteKind, texts: Iterable[str]) -> tuple[Note, ...]:
    """Return texts as notes of one kind."""
    return tuple(Note(kind, text) for text in texts)
