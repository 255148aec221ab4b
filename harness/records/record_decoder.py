"""Decode the JSON of a record; parts that many records have in common are decoded once."""

import functools
from typing import Any, Literal

import msgspec

from bsrbench.harness.records.remarks import Absence, Note
from bsrbench.harness.records.trial_environment import Circumstances, Environment
from bsrbench.harness.records.trial_record import (
    Outcome,
    TimesByKey,
    TrialRecord,
    Value,
    plain_record,
)
from bsrbench.harness.spec.frozen_data import Frozen
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload
from bsrbench.harness.visible_text import visible_in

MOST_KEPT = 8192  # decoded parts of one kind
NULL = b"null"
MODELS: dict[str, type[Frozen]] = {
    "workload": Workload,
    "training": Training,
    "profile": Profile,
}


def decode_record(text: bytes) -> TrialRecord:
    """Return a record of the present schema from its JSON.

    Records can share parts (settings, reasons, notes): never change one in place.

    Raises:
        msgspec.ValidationError: a value is not valid; the message names its place.
        msgspec.DecodeError: the text is not JSON.
    """
    try:
        return _by_parts(text)
    except (msgspec.ValidationError, ValueError):  # pydantic raises a ValueError
        return WHOLE.decode(text)  # its error names the place in the record


def as_stored(record: TrialRecord) -> TrialRecord:
    """Return a record as it is after storing and reading: checked, control characters escaped.

    Raises:
        msgspec.ValidationError: a value is not valid; the message names its place.
    """
    data = plain_record(record)
    shown = {name: data[name] if name == "spec" else visible_in(data[name]) for name in data}
    return decode_record(msgspec.json.encode(shown))


class _Parts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A record whose repeated parts are not decoded yet."""

    schema_version: Literal[8]
    key: str
    spec: msgspec.Raw
    outcome: msgspec.Raw
    measurements: dict[str, Value]
    missing: msgspec.Raw
    notes: msgspec.Raw = msgspec.Raw(b"[]")
    environment: msgspec.Raw
    circumstances: Circumstances = Circumstances()
    finished_at: str
    beside: TimesByKey = {}
    began_at: str | None = None
    content_sha256: str | None = None


def _by_parts(text: bytes) -> TrialRecord:
    parts = PARTS.decode(text)
    return TrialRecord(
        key=parts.key,
        spec=_spec(parts.spec),
        outcome=_part(Outcome, bytes(parts.outcome)),
        measurements=parts.measurements,
        missing=_part(dict[str, Absence], bytes(parts.missing)),
        notes=_part(tuple[Note, ...], bytes(parts.notes)),
        environment=_part(Environment, bytes(parts.environment)),
        circumstances=parts.circumstances,
        finished_at=parts.finished_at,
        beside=parts.beside,
        began_at=parts.began_at,
        content_sha256=parts.content_sha256,
    )


@functools.lru_cache(maxsize=MOST_KEPT)
def _part(kind: Any, text: bytes) -> Any:
    return msgspec.json.decode(text, type=kind)


def _spec(text: msgspec.Raw) -> TrialSpec:
    """Return a spec; equal parts of specs are the same object."""
    parts: dict[str, msgspec.Raw] = SPEC.decode(text)
    return TrialSpec.model_validate({n: _of_spec(n, bytes(part)) for n, part in parts.items()})


@functools.lru_cache(maxsize=MOST_KEPT)
def _of_spec(name: str, text: bytes) -> Any:
    kind = MODELS.get(name)
    if kind is None or text == NULL:
        return msgspec.json.decode(text)
    return kind.model_validate_json(text)


def _whole_spec(kind: type, value: Any) -> Any:
    if kind is not TrialSpec:
        raise NotImplementedError(kind.__name__)
    return TrialSpec.model_validate_json(msgspec.json.encode(value))


SPEC = msgspec.json.Decoder(dict[str, msgspec.Raw])
PARTS = msgspec.json.Decoder(_Parts)
WHOLE = msgspec.json.Decoder(TrialRecord, dec_hook=_whole_spec)
