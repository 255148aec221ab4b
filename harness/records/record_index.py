"""What was read from a large results folder, kept in the cache for the next report.

Reading a hundred thousand files takes as long as all that a report does with them. The index is
lines of records, in each line every repeated part once. It is never the only copy of anything,
and a file that is not as it was when it was read is read again.
"""

import functools
import os
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pydantic

from bsrbench.harness import plain_data, visible_text
from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import cache_folder, read_bytes, write_whole
from bsrbench.harness.records import (
    environment_text,
    measurements_text,
    metrics,
    record_content,
    record_key,
    record_text,
    record_validation,
    schema_upgrade,
    spec_text,
    text_cutting,
    trial_record,
)
from bsrbench.harness.records.trial_record import Outcome, TrialRecord
from bsrbench.harness.spec import frozen_data, trial_spec
from bsrbench.harness.spec.frozen_data import Frozen, Made, digest, made_of
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import Profile, TrialSpec, Workload

Plain = dict[str, Any]
SETTLED_SECONDS = 2.0  # a younger file may change again without its stamp telling
ABANDONED_SECONDS = 3600.0  # after which nobody is still writing an index
NANO = 1e9
LARGEST_INDEX = 2**32  # bytes; of a hundred thousand records it has about a hundredth
DAMAGES = (OSError, ValueError, LookupError, TypeError, AttributeError)  # of an index
# What decides what is read from a file.
DECIDING = (
    *(frozen_data, metrics, plain_data, trial_record, record_content, record_key),
    *(record_text, text_cutting, spec_text, measurements_text, environment_text),
    *(record_validation, trial_spec, schema_upgrade, visible_text),
)


# What changes when a file does: its size, when it was modified and when changed (nanoseconds since
# 1970; the second no program can set), its inode and device.
Stamp = list[int]
NO_STAMP: Stamp = []  # that no file has
Stamped = dict[str, tuple[Stamp, TrialRecord]]  # by file names


def names(folder: Path) -> list[str]:
    """Return the names of the records in a folder, sorted.

    Raises:
        BadInput: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = [entry.name for entry in entries]
    except OSError as error:
        raise BadInput(f"cannot read {folder}: {error.strerror}") from error
    return sorted(name for name in found if name.endswith(".json") and not name.startswith("."))


def stamp(about: os.stat_result) -> Stamp:
    """Return the stamp of a file of which this is known."""
    return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino, about.st_dev]


def _now(path: str) -> Stamp:
    try:
        return stamp(os.stat(path))  # noqa: PTH116 - a third of the time for a hundred thousand
    except OSError:
        return NO_STAMP


def load(folder: Path) -> Stamped:
    """Return the records that are known and whose files have not changed."""
    found: Stamped = {}
    try:
        header, *chunks = read_bytes(_place(folder), LARGEST_INDEX).split(b"\n")
        if orjson.loads(header) != _header(folder, chunks):
            return {}
        for chunk in chunks:
            found |= unpack(chunk)
    except DAMAGES:
        return {}
    start = f"{folder}/"
    return {
        name: known for name, known in found.items() if known[0] and known[0] == _now(start + name)
    }


def save(folder: Path, chunks: Sequence[bytes]) -> None:
    """Keep records for the next time, if the cache can be written; drop those of lost folders.

    Args:
        folder: they are in.
        chunks: what ``pack`` made of them; of an empty one nothing could be made.
    """
    if not all(chunks):
        return
    try:
        place = _place(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        whole = b"\n".join([orjson.dumps(_header(folder, chunks)), *chunks])
        write_whole(place, whole, synced=False)  # half an index is told by its checksum
        _drop_lost(place.parent)
    except OSError:
        return


def _place(folder: Path) -> Path:
    return cache_folder() / "records" / f"{digest(str(folder.resolve()))}.index"


def _header(folder: Path, chunks: Iterable[bytes]) -> Plain:
    checksum = functools.reduce(lambda crc, chunk: zlib.crc32(chunk, crc), chunks, 0)
    return {"folder": str(folder.resolve()), "by": _code(), "crc32": checksum}


def _code() -> str:
    """Return what changes with the code that says what a record is."""
    files = [__file__, *(module.__file__ for module in DECIDING)]
    sources = [Path(str(name)).read_text(encoding="utf-8") for name in files]
    return digest([pydantic.VERSION, *sources])


def _drop_lost(folder: Path) -> None:
    """Drop what nobody will ask for: of folders that are gone, unreadable, or half written."""
    for place in folder.glob("*.index"):
        if not place.is_file():
            continue
        try:
            with place.open("rb") as file:
                lost = not Path(orjson.loads(file.readline())["folder"]).is_dir()
        except DAMAGES:
            lost = True
        if lost:
            place.unlink(missing_ok=True)
    for place in folder.glob(".*.index.*"):
        if time.time() - place.stat().st_mtime > ABANDONED_SECONDS:
            place.unlink(missing_ok=True)


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
    settled = (time.time() - SETTLED_SECONDS) * NANO
    stamps = [_settled(stamp, settled) for stamp, _ in found.values()]
    try:
        lines = [_line(made, tables) for _, made in found.values()]
        packed = {name: table.values for name, table in vars(tables).items()}
        return orjson.dumps(packed | {"names": list(found), "stamps": stamps, "lines": lines})
    except TypeError:
        return b""


def _settled(stamp: Stamp, before: float) -> Stamp:
    """Return the stamp of a file that has come to rest; else one that no file has."""
    return stamp if stamp and max(stamp[1], stamp[2]) < before else NO_STAMP


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
