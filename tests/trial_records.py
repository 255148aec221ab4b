"""Records made for tests: environment and circumstances are given in one flat table."""

import msgspec

from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.sidecar import NO_SIDECAR
from bsrbench.harness.records.trial_environment import (
    Circumstances,
    ClusterNode,
    Environment,
    Machine,
    RanIn,
    RecordedLimits,
)
from bsrbench.harness.records.trial_record import TrialRecord

TYPED = {"machine": Machine, "limits": RecordedLimits, "cluster": ClusterNode}


def trial_record(*, environment, missing, notes=(), **fields):
    """Return a record; reasons and notes may be given as text alone."""
    ours, theirs = _split(environment)
    return TrialRecord(
        missing={name: absence(why) for name, why in missing.items()},
        notes=tuple(map(note, notes)),
        environment=Environment(**ours),
        circumstances=Circumstances(**theirs),
        **fields,
    )


def altered(record, **fields):
    """Return a record in which fields, and single values of ``environment``, are others."""
    if "environment" in fields:
        ours, theirs = _split(fields.pop("environment"))
        fields["environment"] = msgspec.structs.replace(record.environment, **ours)
        fields["circumstances"] = msgspec.structs.replace(record.circumstances, **theirs)
    if "missing" in fields:
        fields["missing"] = {name: absence(why) for name, why in fields["missing"].items()}
    if "notes" in fields:
        fields["notes"] = tuple(map(note, fields["notes"]))
    return msgspec.structs.replace(record, **fields)


def note(text, kind=NoteKind.OTHER):
    """Return a note, which may be one already."""
    return text if isinstance(text, Note) else Note(kind, text)


def absence(why, kind=AbsenceKind.OTHER):
    """Return why a metric has no value, which may be said already."""
    return why if isinstance(why, Absence) else Absence(kind, why)


def ran_in(**environment):
    """Return where a trial ran, from a flat table."""
    ours, theirs = _split({"machine_id": "m", **environment})
    return RanIn(Environment(**ours), Circumstances(**theirs))


def _split(environment):
    """Return what of a flat table belongs to the environment, and what to the circumstances."""
    made = {
        name: TYPED[name](**value) if name in TYPED and isinstance(value, dict) else value
        for name, value in environment.items()
    }
    theirs = {name: made.pop(name) for name in Circumstances.__struct_fields__ if name in made}
    return made, theirs


def as_schema_7(data):
    """Return a record's JSON as schema 7 had it."""
    circumstances = dict(data["circumstances"])
    variables = circumstances.pop("variables")
    environment = data["environment"] | {"circumstances": variables} | circumstances
    known = {name: value for name, value in environment.items() if value not in (None, {}, [])}
    old = {name: value for name, value in data.items() if name != "circumstances"}
    return old | {
        "schema_version": 7,
        "environment": known,
        "notes": [note["text"] for note in data["notes"]],
        "missing": {name: why["text"] for name, why in data["missing"].items()},
    }


def no_details(_key):
    """Give no record a sidecar."""
    return NO_SIDECAR
