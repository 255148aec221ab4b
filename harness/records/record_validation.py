"""Read a record from the text of its file: validate it and upgrade it to the present schema."""

import json
import re
from typing import Any

import msgspec
import orjson
from pydantic import ValidationError

from bsrbench.harness.errors import BadInput
from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_content import CHANGED, HASH, hash_fits, hash_of
from bsrbench.harness.records.record_decoder import decode_record
from bsrbench.harness.records.record_key import fault_of_key
from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.schema_upgrade import upgrade
from bsrbench.harness.records.trial_record import SCHEMA_VERSION, TrialRecord
from bsrbench.harness.visible_text import visible, visible_in

# The store writes ASCII, in which a control character (``visible_text``) is an escape sequence.
ESCAPED = re.compile(rb"\\(?:[bfr]|u(?:00[01789]|061|20[026]|d[89a-f]|fe|ff))", re.IGNORECASE)
PRESENT = b'{\n "schema_version": %d,' % SCHEMA_VERSION  # the start of each file of the store
HASHED_SINCE = 7  # the first schema whose records state a hash of their content
LONGEST = 500  # most characters of an error in a message
ASKED = ("schema_version", "spec", "key", HASH)  # not escaped: invalid values are refused
NEW_METRIC = Absence(AbsenceKind.NEW_METRIC, "this record was made before the metric existed")
ALTERED = Note(NoteKind.INTEGRITY, CHANGED)


def plainly_text(text: bytes) -> bool:
    """Return whether a text certainly has no control characters; fast, may return ``False``."""
    if not text.isascii() or b"\x7f" in text:
        return False
    return b"\\" not in text or ESCAPED.search(text) is None


def validated(text: bytes) -> TrialRecord:
    """Return a record of the present schema from the text of its file.

    Control characters are escaped, except in the spec. A record that was changed after it was
    stored gets a note. A metric that is newer than the record has no value, and the reason says so.

    Raises:
        BadInput: it is not a record; the message does not name the file.
    """
    try:
        return _record(text)
    except BadInput:
        raise
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        what = str(first["msg"]).removeprefix("Value error, ")
        raise BadInput(f"not a valid record ({f'{place}: ' if place else ''}{what})") from error
    except msgspec.ValidationError as error:
        raise BadInput(f"not a valid record ({error})") from error
    except (KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"not a valid record ({type(error).__name__}: {error})") from error
    except RecursionError as error:
        raise BadInput("not a valid record (it is nested too deep)") from error
    except ValueError as error:
        raise BadInput(str(error)) from error


def _record(text: bytes) -> TrialRecord:
    record, stored, changed = _as_stored(text), None, False
    if record is None:
        record, stored, changed = _upgraded(text)
    if fault := fault_of_key(record.key, record.spec, stored):
        raise BadInput(fault)
    if record.measurements.keys() != METRICS.keys():
        record = _with_new_metrics(record)
    if changed:
        return msgspec.structs.replace(record, notes=(ALTERED, *record.notes))
    return record


def _as_stored(text: bytes) -> TrialRecord | None:
    """Return a record if its file has exactly the form that the store writes; else ``None``.

    This is the fast way for most records. Other records, and error messages, need more steps.
    """
    if not (text.startswith(PRESENT) and plainly_text(text) and hash_fits(text)):
        return None
    try:
        return decode_record(text)
    except (msgspec.DecodeError, ValidationError):
        return None


def _upgraded(text: bytes) -> tuple[TrialRecord, Any, bool]:
    """Read a record of any schema, also if another program wrote or changed its file.

    Returns:
        The record, its spec as in the file, and whether it was changed after it was stored.
    """
    try:
        data: Any = orjson.loads(text)
    except ValueError as error:
        raise BadInput(f"not a readable record ({error})") from error
    if not isinstance(data, dict):
        raise BadInput("not a record (expected a JSON object)")
    if fault := fault_in(data):
        raise BadInput(f"not a valid record ({fault})")
    hashed = type(version := data.get("schema_version")) is int and version >= HASHED_SINCE
    changed = hashed and data.get(HASH) != hash_of(data)
    shown = {n: v if n in ASKED else visible_in(v) for n, v in upgrade(data).items()}
    return decode_record(json.dumps(shown).encode()), data.get("spec"), changed


def _with_new_metrics(record: TrialRecord) -> TrialRecord:
    new = [name for name in METRICS if name not in record.measurements]
    return msgspec.structs.replace(
        record,
        measurements=record.measurements | dict.fromkeys(new),
        missing=dict.fromkeys(new, NEW_METRIC) | record.missing,
    )


def named(path: str, error: BadInput) -> BadInput:
    """Return an error whose message begins with the name of the file."""
    return BadInput(visible(f"{path}: {error!s:.{LONGEST}}"))
