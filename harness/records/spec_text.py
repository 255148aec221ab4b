"""Read the spec of a record from its text, and check that the record's key is that of the spec."""

import functools
import hashlib
from typing import Any, NamedTuple

import orjson

from bsrbench.harness.plain_data import LARGEST, fault_in
from bsrbench.harness.records.record_key import read_key
from bsrbench.harness.records.text_cutting import (
    DoubtError,
    cut,
    keys_before,
    validated_model,
    visible_value,
)
from bsrbench.harness.spec.frozen_data import canonical_json, made_of
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

*ASKED_KEYS, SEED_KEY = keys_before(TrialSpec, 2)
SPEC_END = b"\n }"
SEED_IN_CANONICAL = '"seed":0'
TRIAL_DIGITS, ANY_TRIAL = 16, "0" * 16


def spec_of(text: bytes, key: str) -> TrialSpec:
    """Return a spec, of which the key of its record must be.

    Raises:
        DoubtError: the text is not plainly a spec, or the key not plainly one of its records.
        ValidationError: a part is not valid.
    """
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
    method, options, workload, training, profile = cut(text, ASKED_KEYS, b"")
    chosen = visible_value(options)
    if type(chosen) is not dict or fault_in(chosen):
        raise DoubtError
    name = visible_value(method)
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
        workload=validated_model(Workload, workload),
        training=None if training == b"null" else validated_model(Training, training),
        profile=None if profile == b"null" else validated_model(Profile, profile),
    )
    return dict(found.__dict__)
