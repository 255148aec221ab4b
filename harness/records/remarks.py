"""The texts in a record: notes about its numbers, and reasons why a metric has no value."""

from enum import StrEnum

import msgspec


class NoteKind(StrEnum):
    """The topic of a note. Code identifies a note by its kind, never by its text."""

    TIMING = "timing"  # a disturbed machine or a slowed device: times may be wrong
    NOT_TIMED_AGAIN = "not timed again"  # a stored row failed when it was timed again: no ratio
    MEMORY = "memory"  # two memory meters disagree, or a meter does not see some memory
    FLOPS = "flops"  # operators without a formula, or two counters that disagree
    PREDICTION = "prediction"  # assumptions of a prediction
    TRAINING = "training"  # data, checkpoints, gates of experts
    METHOD = "method"  # the method's own notes about its numbers
    INTEGRITY = "integrity"  # the record was changed after it was stored
    OTHER = "other"  # a note from before schema 8, when notes had no kind


class AbsenceKind(StrEnum):
    """Why a metric has no value."""

    NOT_REQUESTED = "not requested"  # the spec of the trial does not ask for it
    NOT_AVAILABLE = "not available"  # the quantity does not exist for this device or model
    NOT_READ = "not read"  # requested, but the trial reads another split of the data
    UNREADABLE = "unreadable"  # the meter could not read it
    REJECTED = "rejected"  # measured, but the value is outside the valid range
    FAILED = "failed"  # the trial ended before the metric was measured
    NEW_METRIC = "new metric"  # the record is older than the metric
    OTHER = "other"  # a reason from before schema 8, when reasons had no kind


class Note(msgspec.Struct, frozen=True, order=True):
    """Something that a reader of the numbers must know."""

    kind: NoteKind
    text: str


class Absence(msgspec.Struct, frozen=True):
    """Why a metric has no value."""

    kind: AbsenceKind
    text: str

    def in_words(self) -> str:
        """Return the reason in the form that reports print."""
        requested = self.kind is not AbsenceKind.NOT_REQUESTED
        return self.text if requested else f"not requested: {self.text}"
