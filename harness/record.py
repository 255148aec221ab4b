"""What a trial leaves behind: spec, outcome, measurements, environment."""

import functools
from enum import StrEnum
from typing import Any, Final, Literal

import orjson
from pydantic import Field, ValidationError, model_validator

from harness.frozen import Frozen, made_of
from harness.metrics import METRICS
from harness.spec import TrialSpec

SCHEMA_VERSION: Final = 5


class Status(StrEnum):
    """How a trial ended; all but ``completed`` are results too and stay in the report."""

    COMPLETED = "completed"
    OUT_OF_MEMORY = "out of memory"
    UNSUPPORTED = "unsupported"
    DIVERGED = "diverged"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


class Outcome(Frozen):
    """How a trial ended, and why if it did not complete."""

    status: Status = Field(strict=False)
    reason: str = ""


Value = int | float | list[float] | list[int] | None


# What reports read of an environment, and its types; the rest is shown as it is.
ENVIRONMENT: dict[str, tuple[type, ...]] = {
    "machine_id": (str,),
    "machine": (dict,),
    "versions": (dict,),
    "commit": (str, type(None)),
    "tree_dirty": (bool, type(None)),
    "round_group": (str,),
    "suite_place": (int,),
    **dict.fromkeys(("device", "method", "workload", "timing", "settings", "limits"), (dict,)),
}


def fault_of(environment: dict[str, Any]) -> str:
    """Return what a report could not read of an environment; empty if it can."""
    if "machine_id" not in environment:
        return "environment.machine_id is missing"
    for name, kinds in ENVIRONMENT.items():
        if name in environment and type(environment[name]) not in kinds:
            expected = " or ".join(kind.__name__ for kind in kinds)
            return f"environment.{name} is {environment[name]!r}, expected {expected}"
    machine = environment.get("machine", {})
    if type(machine.get("memory_bytes", 0)) is not int:
        return f"environment.machine.memory_bytes is {machine['memory_bytes']!r}, expected bytes"
    sets = machine.get("instruction_sets", [])
    if type(sets) is not list or not all(type(name) is str for name in sets):
        return f"environment.machine.instruction_sets is {sets!r}, expected names"
    return ""


class TrialRecord(Frozen):
    """One trial, whole: nothing in it depends on another file.

    Attributes:
        key: trial id, source fingerprint and machine id, joined; the file's name.
        measurements: a value for every name in ``METRICS``; ``None`` has its reason in ``missing``.
        notes: what a reader of the numbers must know (what a meter could not count, doubts).
        environment: machine, device, versions, commit, round group, what the method said.
        finished_at: UTC, ISO 8601.
    """

    schema_version: Literal[5] = SCHEMA_VERSION
    key: str
    spec: TrialSpec
    outcome: Outcome
    measurements: dict[str, Value]
    missing: dict[str, str]
    notes: list[str] = []
    environment: dict[str, Any]
    finished_at: str

    @model_validator(mode="after")
    def _can_be_reported(self) -> "TrialRecord":
        if strange := set(self.measurements) - set(METRICS):
            raise ValueError(f"unknown metrics {sorted(strange)}")
        empty = {name for name in METRICS if self.measurements.get(name) is None}
        if unexplained := empty - set(self.missing):
            raise ValueError(f"no value and no reason for {sorted(unexplained)}")
        if fault := fault_of(self.environment):
            raise ValueError(fault)
        return self

    def label(self) -> str:
        """Return how reports call this row."""
        return self.spec.label()


FIELDS = frozenset(TrialRecord.model_fields)
NAMES = frozenset(METRICS)
NUMBERS = (int, float)
OF_ONE_KIND: tuple[set[type], ...] = ({int}, {float}, set())


def fast_record(data: dict[str, Any]) -> TrialRecord | None:
    """Return a record of the present schema, if all of it is plainly as it should be.

    For reports over a hundred thousand records: specs and outcomes that were seen before are not
    validated again, and the rest is looked at here. Where there is any doubt the answer is
    ``None``, and the validation that can say what is wrong is the one to ask.
    """
    if data.get("schema_version") != SCHEMA_VERSION or not data.keys() <= FIELDS:
        return None
    measured, missing, environment = (
        data.get(name) for name in ("measurements", "missing", "environment")
    )
    notes, key, finished = data.get("notes", []), data.get("key"), data.get("finished_at")
    if not type(measured) is type(missing) is type(environment) is dict:
        return None
    filled = {name: value for name, value in measured.items() if value is not None}
    if not (
        type(key) is type(finished) is str
        and type(notes) is list
        and all(type(note) is str for note in notes)
        and set(map(type, missing.values())) <= {str}
        and measured.keys() <= NAMES
        and _are_plain(filled)
        and not fault_of(environment)
        and NAMES.difference(filled) <= missing.keys()
    ):
        return None
    try:
        fields = {
            "schema_version": SCHEMA_VERSION,
            "key": key,
            "spec": _fast_spec(data["spec"]),
            "outcome": _outcome(orjson.dumps(data.get("outcome"))),
            "measurements": measured,
            "missing": _same(orjson.dumps(missing)),
            "notes": notes,
            "environment": {
                name: _same(orjson.dumps(value)) if type(value) is dict else value
                for name, value in environment.items()
            },
            "finished_at": finished,
        }
    except (ValidationError, KeyError, TypeError, AttributeError):
        return None
    return made_of(TrialRecord, fields)


def _are_plain(filled: dict[str, Any]) -> bool:
    """Return whether every value is a number, or a list of numbers of one kind."""
    # A mixture of whole and other numbers becomes all floats: not here.
    return all(
        type(value) in NUMBERS or (type(value) is list and set(map(type, value)) in OF_ONE_KIND)
        for value in filled.values()
    )


def _fast_spec(data: dict[str, Any]) -> TrialSpec:
    """Return a spec of which all but the seed was validated before, or is now."""
    seed = data["seed"]
    whole = _spec(orjson.dumps(data | {"seed": 0}))
    if seed == 0:
        return whole
    if type(seed) is not int or seed < 0:
        raise TypeError(seed)
    return made_of(TrialSpec, whole.__dict__ | {"seed": seed})


@functools.lru_cache(maxsize=65536)
def _spec(text: bytes) -> TrialSpec:
    """Return a validated spec whose parts are the very objects of other specs that equal them."""
    made = TrialSpec.model_validate_json(text)
    for name in ("workload", "training", "profile"):
        part = made.__dict__[name]
        made.__dict__[name] = _shared.setdefault(part, part)
    return made


@functools.lru_cache(maxsize=8192)
def _same(text: bytes) -> Any:
    """Return the one object for all equal ones: records of a run share machine and reasons."""
    return orjson.loads(text)


_shared: dict[Any, Any] = {}  # parts of specs; a suite has a handful


@functools.lru_cache(maxsize=1024)
def _outcome(text: bytes) -> Outcome:
    return Outcome.model_validate_json(text)
