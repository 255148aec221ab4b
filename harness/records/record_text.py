"""Read a record quickly, where its text is as the store writes it and all is as it should be.

A report over a hundred thousand records reads the same settings, reasons and machines again and
again. The text is cut at the keys, whose places the store's indentation tells; a part that was seen
before is the value that was made of it then.
"""

import functools
from typing import NamedTuple

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.environment_text import environment_of
from bsrbench.harness.records.measurements_text import measurements_of
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.record_content import hash_fits
from bsrbench.harness.records.record_validation import plainly_text
from bsrbench.harness.records.spec_text import spec_of
from bsrbench.harness.records.text_cutting import (
    DoubtError,
    keys_before,
    simple_string,
    validated_model,
    visible_value,
)
from bsrbench.harness.records.trial_record import SCHEMA_VERSION, Outcome, TimesByKey, TrialRecord
from bsrbench.harness.spec.frozen_data import made_of

NAMES = frozenset(METRICS)
TIMES = TypeAdapter(TimesByKey, config=ConfigDict(strict=True))

RECORD_KEYS, RECORD_END = keys_before(TrialRecord, 1), b"\n}\n"
REASONS = list(TrialRecord.model_fields).index("missing")
BEFORE_REASONS, AFTER_REASONS = RECORD_KEYS[1 : REASONS + 1], RECORD_KEYS[:REASONS:-1]
END_COMPARED, MOST_ALIKE = 48, 64  # bytes of a text; texts that have them in common
VERSION = str(SCHEMA_VERSION).encode()


def fast_record(text: bytes) -> TrialRecord | None:
    """Return a record of the present schema from its file's text, if there is no doubt about it.

    Where there is any the answer is ``None``, and the validation that can say what is wrong is the
    one to ask.
    """
    try:
        return _record(text)
    except (DoubtError, ValidationError, orjson.JSONDecodeError):
        return None


def _record(text: bytes) -> TrialRecord:
    parts = _cut_record(text)
    version, key, asked, outcome, measured, missing, notes, environment = parts[:8]
    finished, beside, began, content = parts[8:]
    if version != VERSION or not hash_fits(text, content):
        raise DoubtError
    name, reasons = simple_string(key), _reasons(missing)
    return made_of(
        TrialRecord,
        {
            "schema_version": SCHEMA_VERSION,
            "key": name,
            "spec": spec_of(asked, name),
            "outcome": validated_model(Outcome, outcome),
            "measurements": measurements_of(measured, reasons.metrics),
            "missing": reasons.by_metric,
            "notes": _notes(notes),
            "environment": environment_of(environment),
            "finished_at": simple_string(finished),
            "beside": {} if beside == b"{}" else _beside(beside),
            "began_at": None if began == b"null" else simple_string(began),
            "content_sha256": content[1:-1].decode(),
        },
    )


def _cut_record(text: bytes) -> list[bytes]:
    """Return what ``cut`` does of a record, in half the time.

    It comes from both ends: the reasons, which are half of the text, are not searched for a key.
    """
    if not (text.startswith(RECORD_KEYS[0]) and text.endswith(RECORD_END)):
        raise DoubtError
    front: list[bytes] = []
    back: list[bytes] = []
    start, end = len(RECORD_KEYS[0]), len(text) - len(RECORD_END)
    for key in BEFORE_REASONS:
        found = text.find(key, start, end)
        if found < 0:
            raise DoubtError
        front.append(text[start:found])
        start = found + len(key)
    for key in AFTER_REASONS:
        found = text.rfind(key, start, end)
        if found < 0:
            raise DoubtError
        back.append(text[found + len(key) : end])
        end = found
    return [*front, text[start:end], *reversed(back)]


class _Reasons(NamedTuple):
    """Why metrics have no value, and which those are."""

    text: bytes
    by_metric: dict[str, str]
    metrics: frozenset[str]


@functools.lru_cache(maxsize=8192)
def _like(size: int, end: bytes) -> list[_Reasons]:  # noqa: ARG001 - what the cache goes by
    """Return where reasons are kept whose text has this size and end.

    To compare a text of three kilobytes is faster by far than to hash it.
    """
    return []


def _reasons(text: bytes) -> _Reasons:
    kept = _like(len(text), text[-END_COMPARED:])
    for known in kept:
        if known.text == text:
            return known
    value = visible_value(text)
    if type(value) is not dict or not set(map(type, value.values())) <= {str}:
        raise DoubtError
    found = _Reasons(text, value, frozenset(value))
    kept[:] = [found, *kept[: MOST_ALIKE - 1]]
    return found


@functools.lru_cache(maxsize=8192)
def _notes(text: bytes) -> list[str]:
    value = visible_value(text)
    if type(value) is not list or not set(map(type, value)) <= {str}:
        raise DoubtError
    return value


def _beside(text: bytes) -> dict[str, dict[str, list[float]]]:
    times = TIMES.validate_json(text)
    if not plainly_text(text):
        raise DoubtError
    if not {name for of_row in times.values() for name in of_row} <= NAMES or fault_in(times):
        raise DoubtError
    return times
