"""Pack records into a line of JSON that has every repeated part once, and unpack them."""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from bsrbench.harness.records import trial_record
from bsrbench.harness.records.file_stamp import Stamp, settled_before, stamp_at_rest
from bsrbench.harness.records.trial_record import Outcome, TrialRecord
from bsrbench.harness.spec.frozen_data import Frozen, Made, made_of
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

Plain = dict[str, Any]
Stamped = dict[str, tuple[Stamp, TrialRecord]]  # by file names


class _Table:
    """Values in the order they came, equal ones once.

    Args:
        plain: makes JSON of a value.
    """

    def __init__(self, plain: Callable[[Any], Any] = lambda value: value) -> None:
        self.values: list[Any] = []
        self._plain = plain
        self._of_object: dict[int, int] = {}
        self._of_value: dict[bytes, int] = {}
        self._of_names: dict[tuple[Any, ...], int] = {}
        self._alive: list[Any] = []  # as long as an object lives nobody else has its id

    def number(self, value: Any) -> int:
        """Return a value's place."""
        known = self._of_object.get(id(value))
        if known is not None:
            return known
        plain = self._plain(value)
        number = self._of_value.setdefault(orjson.dumps(plain), len(self.values))
        if number == len(self.values):
            self.values.append(plain)
        self._of_object[id(value)] = number
        self._alive.append(value)
        return number

    def numbers(self, values: Iterable[Any]) -> list[int]:
        """Return the places of values, most of which were seen before."""
        known = self._of_object
        return [known[id(v)] if id(v) in known else self.number(v) for v in values]

    def number_of(self, value: tuple[Any, ...]) -> int:
        """Return the place of names and numbers, faster than ``number`` does."""
        number = self._of_names.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number


def _dumped(model: Frozen | None) -> Plain | None:
    return None if model is None else model.model_dump(mode="json")


@dataclass
class _Tables:
    """Every part of records that repeats; in the file by these names."""

    workload: _Table = field(default_factory=lambda: _Table(_dumped))
    training: _Table = field(default_factory=lambda: _Table(_dumped))
    profile: _Table = field(default_factory=lambda: _Table(_dumped))
    outcome: _Table = field(default_factory=lambda: _Table(_dumped))
    spec: _Table = field(default_factory=_Table)
    measured: _Table = field(default_factory=_Table)
    part: _Table = field(default_factory=_Table)
    environment: _Table = field(default_factory=_Table)


def pack(found: Stamped) -> bytes:
    """Return records as a line of JSON that names every repeated part by its place in a table.

    It is empty where orjson cannot write a record (a number of more than 64 bits, say).

    Args:
        found: file names -> stamps from before the files were read, and what was in them.
    """
    tables = _Tables()
    before = settled_before()
    stamps = [stamp_at_rest(stamp, before) for stamp, _ in found.values()]
    try:
        lines = [_line(made, tables) for _, made in found.values()]
        packed = {name: table.values for name, table in vars(tables).items()}
        return orjson.dumps(packed | {"names": list(found), "stamps": stamps, "lines": lines})
    except TypeError:
        return b""


def _line(made: TrialRecord, tables: _Tables) -> list[Any]:
    asked, measured, environment = made.spec, made.measurements, made.environment
    of_spec = (
        asked.method,
        tables.part.number(asked.options),
        tables.workload.number(asked.workload),
        tables.training.number(asked.training),
        tables.profile.number(asked.profile),
    )
    filled = {name: value for name, value in measured.items() if value is not None}
    return [
        made.key,
        made.finished_at,
        asked.seed,
        tables.spec.number_of(of_spec),
        tables.outcome.number(made.outcome),
        tables.measured.number_of((tuple(measured), tuple(filled))),
        list(filled.values()),
        tables.part.number(made.missing),
        tables.part.number(made.notes),
        tables.environment.number_of(tuple(environment)),
        tables.part.numbers(environment.values()),
        made.beside,
        made.began_at,
        made.content_sha256,
    ]


def unpack(chunk: bytes) -> Stamped:
    """Return the records that ``pack`` was given, with stamps of those files that had settled."""
    packed = orjson.loads(chunk)
    parts = packed["part"]
    workloads = _models(Workload, packed["workload"])
    trainings = _models(Training, packed["training"])
    profiles = _models(Profile, packed["profile"])
    outcomes = _models(Outcome, packed["outcome"])
    specs = [
        {
            "method": method,
            "options": parts[options],
            "workload": workloads[workload],
            "training": trainings[training],
            "profile": profiles[profile],
        }
        for method, options, workload, training, profile in packed["spec"]
    ]
    measured = [(dict.fromkeys(names), filled) for names, filled in packed["measured"]]
    environments = packed["environment"]

    def read(line: list[Any]) -> TrialRecord:
        key, finished, seed, asked, outcome, shape, values, missing, notes, named, told = line[:11]
        beside, began, content = line[11:]
        empty, filled = measured[shape]
        numbers = empty.copy()
        numbers.update(zip(filled, values, strict=True))
        environment = zip(environments[named], [parts[n] for n in told], strict=True)
        whole = {
            "schema_version": trial_record.SCHEMA_VERSION,
            "key": key,
            "spec": made_of(TrialSpec, specs[asked] | {"seed": seed}),
            "outcome": outcomes[outcome],
            "measurements": numbers,
            "missing": parts[missing],
            "notes": parts[notes],
            "environment": dict(environment),
            "finished_at": finished,
            "beside": beside,
            "began_at": began,
            "content_sha256": content,
        }
        return made_of(TrialRecord, whole)

    stamped = zip(packed["stamps"], map(read, packed["lines"]), strict=True)
    return dict(zip(packed["names"], stamped, strict=True))


def _models(kind: type[Made], values: Iterable[Plain | None]) -> list[Made | None]:
    return [None if value is None else _model(kind, orjson.dumps(value)) for value in values]


@functools.lru_cache(maxsize=8192)
def _model(kind: type[Made], text: bytes) -> Made:
    """Return a validated model, the same object for the same text: chunks repeat each other's."""
    return kind.model_validate_json(text)
