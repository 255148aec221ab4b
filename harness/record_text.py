"""Read a record quickly, where its text is as the store writes it and all is as it should be.

A report over a hundred thousand records reads the same settings, reasons and machines again and
again. The text is cut at the keys, whose places the store's indentation tells; a part that was seen
before is the value that was made of it then.
"""

import functools
from collections.abc import Sequence
from typing import Any

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.frozen import Frozen, Made, made_of
from harness.metrics import METRICS
from harness.recipe import Training
from harness.record import SCHEMA_VERSION, Outcome, TimesByKey, TrialRecord, wrong_in
from harness.spec import Profile, TrialSpec, Workload

NAMES = frozenset(METRICS)
NUMBERS = (int, float)
OF_ONE_KIND: tuple[set[type], ...] = ({int}, {float}, set())  # others become all floats: not here
NOTHING = type(None)
TIMES = TypeAdapter(TimesByKey, config=ConfigDict(strict=True))


def _keys(kind: type[Frozen], depth: int) -> tuple[bytes, ...]:
    """Return what stands before each value of a model, as the store writes it."""
    start = "\n" + " " * depth
    before = (f'{start}"{name}": ' for name in kind.model_fields)
    return tuple(f"{',' if place else '{'}{key}".encode() for place, key in enumerate(before))


RECORD_KEYS, RECORD_END = _keys(TrialRecord, 1), b"\n}\n"
*ASKED_KEYS, SEED_KEY = _keys(TrialSpec, 2)
SPEC_END = b"\n }"
ENVIRONMENT_START, NEXT_KEY, ENVIRONMENT_END = b'{\n  "', b',\n  "', b"\n }"
VERSION = str(SCHEMA_VERSION).encode()


class DoubtError(ValueError):
    """Something is not plainly as it should be."""


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
    parts = _cut(text, RECORD_KEYS, RECORD_END)
    version, key, asked, outcome, measured, missing, notes, environment = parts[:8]
    finished, beside, began = parts[8:]
    if version != VERSION:
        raise DoubtError
    return made_of(
        TrialRecord,
        {
            "schema_version": SCHEMA_VERSION,
            "key": _string(key),
            "spec": _spec(asked),
            "outcome": _model(Outcome, outcome),
            "measurements": _measurements(measured, missing),
            "missing": _reasons(missing),
            "notes": _notes(notes),
            "environment": _environment(environment),
            "finished_at": _string(finished),
            "beside": {} if beside == b"{}" else _beside(beside),
            "began_at": None if began == b"null" else _string(began),
        },
    )


def _cut(text: bytes, keys: Sequence[bytes], end: bytes) -> list[bytes]:
    """Return the text of each value of an object.

    Whatever stands between the keys: if each part is a JSON value by itself, and whoever parses it
    finds that out, the text is an object of these keys and values.
    """
    first, *others = keys
    if not (text.startswith(first) and text.endswith(end)):
        raise DoubtError
    parts, start = [], len(first)
    for key in others:
        found = text.find(key, start)
        if found < 0:
            raise DoubtError
        parts.append(text[start:found])
        start = found + len(key)
    parts.append(text[start : len(text) - len(end)])
    return parts


def _string(text: bytes) -> str:
    value = orjson.loads(text)
    if type(value) is not str:
        raise DoubtError
    return value


def _spec(text: bytes) -> TrialSpec:
    before, key, behind = text.rpartition(SEED_KEY)
    if not (key and behind.endswith(SPEC_END)):
        raise DoubtError
    seed = orjson.loads(behind[: -len(SPEC_END)])
    if type(seed) is not int or seed < 0:
        raise DoubtError
    return made_of(TrialSpec, _but_for_its_seed(before) | {"seed": seed})


@functools.lru_cache(maxsize=8192)
def _but_for_its_seed(text: bytes) -> dict[str, Any]:
    """Return the fields of a spec; its text ends before the key of the seed."""
    method, options, workload, training, profile = _cut(text, ASKED_KEYS, b"")
    chosen = orjson.loads(options)
    if type(chosen) is not dict:
        raise DoubtError
    own = {"method": _string(method), "options": chosen}
    return _parts(workload, training, profile) | own


@functools.lru_cache(maxsize=65536)
def _parts(workload: bytes, training: bytes, profile: bytes) -> dict[str, Any]:
    """Return the validated fields of a spec: its validators look at these three parts together."""
    found = TrialSpec(
        method="",
        workload=_model(Workload, workload),
        training=None if training == b"null" else _model(Training, training),
        profile=None if profile == b"null" else _model(Profile, profile),
    )
    return dict(found.__dict__)


@functools.lru_cache(maxsize=8192)
def _model(kind: type[Made], text: bytes) -> Made:
    return kind.model_validate_json(text)


@functools.lru_cache(maxsize=8192)
def _reasons(text: bytes) -> dict[str, str]:
    value = orjson.loads(text)
    if type(value) is not dict or not set(map(type, value.values())) <= {str}:
        raise DoubtError
    return value


@functools.lru_cache(maxsize=8192)
def _notes(text: bytes) -> list[str]:
    value = orjson.loads(text)
    if type(value) is not list or not set(map(type, value)) <= {str}:
        raise DoubtError
    return value


def _measurements(text: bytes, missing: bytes) -> dict[str, Any]:
    measured = orjson.loads(text)
    if type(measured) is not dict:
        raise DoubtError
    for name in _samples(tuple(measured), tuple(map(type, measured.values())), missing):
        if set(map(type, measured[name])) not in OF_ONE_KIND:
            raise DoubtError
    return measured


def _beside(text: bytes) -> dict[str, dict[str, list[float]]]:
    times = TIMES.validate_json(text)
    if not {name for of_row in times.values() for name in of_row} <= NAMES:
        raise DoubtError
    return times


@functools.lru_cache(maxsize=8192)
def _samples(names: tuple[str, ...], kinds: tuple[type, ...], missing: bytes) -> list[str]:
    """Return the metrics that have a list of samples; see that all others are as they should be."""
    kind_of = dict(zip(names, kinds, strict=True))
    absent = {name for name in NAMES if kind_of.get(name, NOTHING) is NOTHING}
    if not (
        kind_of.keys() <= NAMES
        and set(kinds) <= {*NUMBERS, list, NOTHING}
        and absent <= _reasons(missing).keys()
    ):
        raise DoubtError
    return [name for name, kind in kind_of.items() if kind is list]


def _environment(text: bytes) -> dict[str, Any]:
    if not (text.startswith(ENVIRONMENT_START) and text.endswith(ENVIRONMENT_END)):
        raise DoubtError
    inner = text[len(ENVIRONMENT_START) : -len(ENVIRONMENT_END)]
    whole: dict[str, Any] = {}
    for part in inner.split(NEXT_KEY):
        whole.update(_of_environment(part))
    if "machine_id" not in whole:
        raise DoubtError
    return whole


@functools.lru_cache(maxsize=8192)
def _of_environment(text: bytes) -> dict[str, Any]:
    """Return a key, whose opening quote was cut away, and its value."""
    found: dict[str, Any] = orjson.loads(b'{"' + text + b"}")
    if wrong_in(found):
        raise DoubtError
    return found
