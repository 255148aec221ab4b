"""What a record says in words: notes about its numbers, and why a metric has no value."""

from enum import StrEnum

import msgspec


class NoteKind(StrEnum):
    """What a note is about. Code recognises a note by its kind and never by its text."""

    TIMING = "timing"  # a disturbed machine, a slowed device: times may be wrong
    NOT_TIMED_AGAIN = "not timed again"  # a stored row failed in turns with this one: no ratio
    MEMORY = "memory"  # two memory meters disagree, or a meter could not see something
    FLOPS = "flops"  # operators that no counter knows, or two counters that disagree
    PREDICTION = "prediction"  # what the prediction assumes
    TRAINING = "training"  # data, checkpoints, gates of experts
    METHOD = "method"  # what the method itself says of its numbers
    INTEGRITY = "integrity"  # the record was changed after it was stored
    OTHER = "other"  # from records before schema 8, which stated no kind


class AbsenceKind(StrEnum):
    """Why a metric has no value."""

    NOT_REQUESTED = "not requested"  # the spec of the trial does not ask for it
    NOT_AVAILABLE = "not available"  # this device or model has no such quantity
    NOT_READ = "not read"  # it was asked for; the trial reads another split of the data
    UNREADABLE = "unreadable"  # the meter could not read it
    REJECTED = "rejected"  # it was measured, and no record may hold the value
    FAILED = "failed"  # the trial ended before it was measured
    NEW_METRIC = "new metric"  # the record is older than the metric
    OTHER = "other"  # from records before schema 8, which stated no kind


class Note(msgspec.Struct, frozen=True, order=True):
    """Something that a reader of the numbers must know."""

    kind: NoteKind
    text: str


class Absence(msgspec.Struct, frozen=True):
    """Why a metric has no value."""

    kind: AbsenceKind
    text: str

    def in_words(self) -> str:
        """Return it as reports print it."""
        asked = self.kind is not AbsenceKind.NOT_REQUESTED
        return self.text if asked else f"not requested: {self.text}"
