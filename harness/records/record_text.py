"""Read a record quickly, where its text is as the store writes it and all is as it should be.

A report over a hundred thousand records reads the same settings, reasons and machines again and
again. The text is cut at the keys, whose places the store's indentation tells; a part that was seen
before is the value that was made of it then.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bsrbench.harness.plain_data import LARGEST, fault_in
from bsrbench.harness.records.metrics import CURVE, METRICS, MOST, bounds_of
from bsrbench.harness.records.record_content import hash_fits
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.record_validation import plainly_text
from bsrbench.harness.records.trial_record import (
    SCHEMA_VERSION,
    Outcome,
    TimesByKey,
    TrialRecord,
    wrong_in,
)
from bsrbench.harness.spec.frozen_data import Frozen, Made, canonical_json, made_of
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

NAMES = frozenset(METRICS)
NUMBERS = (int, float)
OF_ONE_KIND: tuple[set[type], ...] = ({float}, {int})  # others become all floats: not here
UNSIGNED = (0, MOST)
Bounded = tuple[str, float, float]  # a metric, its least value, its largest
NOTHING = type(None)
TIMES = TypeAdapter(TimesByKey, config=ConfigDict(strict=True))


def _keys(kind: type[Frozen], depth: int) -> tuple[bytes, ...]:
    """Return what stands before each value of a model, as the store writes it."""
    start = "\n" + " " * depth
    before = (f'{start}"{name}": ' for name in kind.model_fields)
    return tuple(f"{',' if place else '{'}{key}".encode() for place, key in enumerate(before))


RECORD_KEYS, RECORD_END = _keys(TrialRecord, 1), b"\n}\n"
REASONS = list(TrialRecord.model_fields).index("missing")
BEFORE_REASONS, AFTER_REASONS = RECORD_KEYS[1 : REASONS + 1], RECORD_KEYS[:REASONS:-1]
*ASKED_KEYS, SEED_KEY = _keys(TrialSpec, 2)
SPEC_END = b"\n }"
SEED_IN_CANONICAL = '"seed":0'
TRIAL_DIGITS, ANY_TRIAL = 16, "0" * 16
ENVIRONMENT_START, NEXT_KEY, ENVIRONMENT_END = b'{\n  "', b',\n  "', b"\n }"
AFTER_THE_RUN = b',\n  "command": '
END_COMPARED, MOST_ALIKE = 48, 64  # bytes of a text; texts that have them in common
SIMPLE = re.compile(rb'"[ !#-\[\]-~]*"')  # a string in which nothing is escaped
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
    parts = _cut_record(text)
    version, key, asked, outcome, measured, missing, notes, environment = parts[:8]
    finished, beside, began, content = parts[8:]
    if version != VERSION or not hash_fits(text, content):
        raise DoubtError
    name, reasons = _string(key), _reasons(missing)
    return made_of(
        TrialRecord,
        {
            "schema_version": SCHEMA_VERSION,
            "key": name,
            "spec": _spec(asked, name),
            "outcome": _model(Outcome, outcome),
            "measurements": _measurements(measured, reasons.metrics),
            "missing": reasons.by_metric,
            "notes": _notes(notes),
            "environment": _environment(environment),
            "finished_at": _string(finished),
            "beside": {} if beside == b"{}" else _beside(beside),
            "began_at": None if began == b"null" else _string(began),
            "content_sha256": content[1:-1].decode(),
        },
    )


def _cut_record(text: bytes) -> list[bytes]:
    """Return what ``_cut`` does of a record, in half the time.

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
    if not SIMPLE.fullmatch(text):
        raise DoubtError
    return text[1:-1].decode()


def _shown(text: bytes) -> Any:
    """Return a JSON value of whose text no character acts where it is shown."""
    if not plainly_text(text):
        raise DoubtError
    return orjson.loads(text)


def _spec(text: bytes, key: str) -> TrialSpec:
    """Return a spec, of which the key of its record must be."""
    before, seed_key, behind = text.rpartition(SEED_KEY)
    if not (seed_key and behind.endswith(SPEC_END)):
        raise DoubtError
    seed = orjson.loads(behind[: -len(SPEC_END)])
    if type(seed) is not int or not 0 <= seed < LARGEST:
        raise DoubtError
    known = _but_for_its_seed(before)
    canonical = b"%b%d%b" % (known.start, seed, known.rest)
    trial = hashlib.sha256(canonical, usedforsecurity=False).hexdigest()[:TRIAL_DIGITS]
    method, found, others = key.partition(f"-{trial}-")
    if not (found and _is_a_key(method, others)):
        raise DoubtError
    return made_of(TrialSpec, known.fields | {"seed": seed})


@functools.lru_cache(maxsize=8192)
def _is_a_key(method: str, others: str) -> bool:
    """Tell whether what stands around the trial's id in a key may stand there."""
    found = read_key(f"{method}-{ANY_TRIAL}-{others}")
    return found is not None and (found.method, found.trial) == (method, ANY_TRIAL)


class _Known(NamedTuple):
    """Specs but for their seed: the fields, and the canonical JSON before and after the seed."""

    fields: dict[str, Any]
    start: bytes
    rest: bytes


@functools.lru_cache(maxsize=8192)
def _but_for_its_seed(text: bytes) -> _Known:
    """Take the fields of a spec; its text ends before the key of the seed."""
    method, options, workload, training, profile = _cut(text, ASKED_KEYS, b"")
    chosen = _shown(options)
    if type(chosen) is not dict or fault_in(chosen):
        raise DoubtError
    name = _shown(method)
    if type(name) is not str:
        raise DoubtError
    own = {"method": name, "options": chosen}
    fields = _parts(workload, training, profile) | own
    canonical = canonical_json(made_of(TrialSpec, fields | {"seed": 0}).identifying())
    start, seed_key, rest = canonical.rpartition(SEED_IN_CANONICAL)
    if not seed_key:
        raise DoubtError
    return _Known(fields, (start + SEED_IN_CANONICAL[:-1]).encode(), rest.encode())


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
    if not plainly_text(text):
        raise DoubtError
    return kind.model_validate_json(text)


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
    value = _shown(text)
    if type(value) is not dict or not set(map(type, value.values())) <= {str}:
        raise DoubtError
    found = _Reasons(text, value, frozenset(value))
    kept[:] = [found, *kept[: MOST_ALIKE - 1]]
    return found


@functools.lru_cache(maxsize=8192)
def _notes(text: bytes) -> list[str]:
    value = _shown(text)
    if type(value) is not list or not set(map(type, value)) <= {str}:
        raise DoubtError
    return value


def _measurements(text: bytes, missing: frozenset[str]) -> dict[str, Any]:
    measured = orjson.loads(text)
    if type(measured) is not dict:
        raise DoubtError
    shape = _shape(tuple(measured), tuple(map(type, measured.values())), missing)
    numbers = shape.unsigned(measured)
    # Where no sign stands nothing is negative, and no number larger than the sum.
    signs = b"-" in text
    if sum(numbers) > MOST or (signs and min(numbers) < 0):
        raise DoubtError
    for name, low, high in shape.special:
        if not low <= measured[name] <= high:
            raise DoubtError
    for name, high in shape.sampled:
        values = measured[name]
        if set(map(type, values)) not in OF_ONE_KIND or (signs and min(values) < 0):
            raise DoubtError
        if sum(values) > high and max(values) > high:
            raise DoubtError
    if shape.curve and len(set(map(len, map(measured.__getitem__, CURVE)))) > 1:
        raise DoubtError
    return measured


def _beside(text: bytes) -> dict[str, dict[str, list[float]]]:
    times = TIMES.validate_json(text)
    if not plainly_text(text):
        raise DoubtError
    if not {name for of_row in times.values() for name in of_row} <= NAMES or fault_in(times):
        raise DoubtError
    return times


class _Shape(NamedTuple):
    """Which metrics of a record have a value, by what the value may be."""

    unsigned: Callable[[dict[str, Any]], Sequence[float]]  # gives the values of all of them
    special: tuple[Bounded, ...]
    sampled: tuple[tuple[str, float], ...]  # and the largest value
    curve: bool


@functools.lru_cache(maxsize=8192)
def _shape(names: tuple[str, ...], kinds: tuple[type, ...], missing: frozenset[str]) -> _Shape:
    """Sort the metrics that have a value; see that of all others it is said why they have none."""
    kind_of = dict(zip(names, kinds, strict=True))
    absent = {name for name in NAMES if kind_of.get(name, NOTHING) is NOTHING}
    if not (
        kind_of.keys() <= NAMES and set(kinds) <= {*NUMBERS, list, NOTHING} and absent <= missing
    ):
        raise DoubtError
    filled = [name for name, kind in kind_of.items() if kind is not NOTHING]
    if any(METRICS[name].samples != (kind_of[name] is list) for name in filled):
        raise DoubtError
    read = len(set(CURVE) & set(filled))
    if read not in {0, len(CURVE)}:
        raise DoubtError
    bounded = [(name, *bounds_of(name)) for name in filled]
    sampled = tuple((name, high) for name, _, high in bounded if kind_of[name] is list)
    single = [each for each in bounded if kind_of[each[0]] is not list]
    special = tuple(each for each in single if each[1:] != UNSIGNED)
    unsigned = [name for name, *bounds in single if tuple(bounds) == UNSIGNED]
    # Of two or more names it gives a tuple.
    numbers = itemgetter(*unsigned) if len(unsigned) > 1 else _none
    return _Shape(numbers, special, sampled, read > 0)


def _none(measured: dict[str, Any]) -> Sequence[float]:  # noqa: ARG001 - as itemgetter's
    """Leave to validation what has hardly a number."""
    raise DoubtError


def _environment(text: bytes) -> dict[str, Any]:
    if not (text.startswith(ENVIRONMENT_START) and text.endswith(ENVIRONMENT_END)):
        raise DoubtError
    known = _of_runs()
    for run in known:
        if text.startswith(run.text):
            return run.values | _parts_of_environment(text[len(run.text) : -len(ENVIRONMENT_END)])
    whole = _parts_of_environment(text[len(ENVIRONMENT_START) : -len(ENVIRONMENT_END)])
    if "machine_id" not in whole:
        raise DoubtError
    own = text.find(AFTER_THE_RUN)
    start = _parts_of_environment(text[len(ENVIRONMENT_START) : own]) if own >= 0 else {}
    if "machine_id" in start:
        run = _Run(text[: own + len(NEXT_KEY)], start)
        known[:] = [run, *known[: MOST_ALIKE - 1]]
    return whole


class _Run(NamedTuple):
    """What begins the environments of all records of one run: machine, versions, and so on."""

    text: bytes
    values: dict[str, Any]


@functools.cache
def _of_runs() -> list[_Run]:
    """Return where the latest of them are kept; to compare a text is faster than to cut it up."""
    return []


def _parts_of_environment(text: bytes) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for part in text.split(NEXT_KEY):
        whole.update(_of_environment(part))
    return whole


@functools.lru_cache(maxsize=8192)
def _of_environment(text: bytes) -> dict[str, Any]:
    """Return a key, whose opening quote was cut away, and its value."""
    found: dict[str, Any] = _shown(b'{"' + text + b"}")
    if wrong_in(found) or fault_in(found):
        raise DoubtError
    return found
