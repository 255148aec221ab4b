"""Read records from their files: one, or a folder of very many."""

import functools
import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import orjson
from pydantic import ValidationError

from harness import record_index
from harness.errors import BadInput
from harness.record import TrialRecord
from harness.record_index import Stamp, Stamped, stamp
from harness.record_text import fast_record
from harness.upgrade import upgrade

MANY, CHUNK = 5000, 500  # records from which on they are indexed and read by several processes
Aside = dict[str, str]  # file name -> why it was set aside


def read_folder(folder: Path) -> tuple[list[TrialRecord], list[str]]:
    """Return every readable record of a folder, oldest first, and why the others were set aside."""
    names = record_index.names(folder)
    if len(names) < MANY:
        some, aside = _read_some(folder, names)
        found = {name: made for name, (_, made) in some.items()}
    else:
        found, aside = _read_many(folder, names)
        gc.freeze()  # they live to the end, and looking through them takes a third of a report
    records = sorted(found.items(), key=lambda item: (item[1].finished_at, item[0]))
    return [made for _, made in records], [aside[name] for name in sorted(aside)]


def _read_some(folder: Path, names: Iterable[str]) -> tuple[Stamped, Aside]:
    found: Stamped = {}
    aside: Aside = {}
    for name in names:
        try:
            found[name] = _read(f"{folder}/{name}")
        except BadInput as error:
            aside[name] = str(error)
    return found, aside


def _read_many(folder: Path, names: Sequence[str]) -> tuple[dict[str, TrialRecord], Aside]:
    """Read what the index does not know, with all cores where that is much, and keep it there."""
    known = record_index.load(folder)
    unknown = [name for name in names if name not in known]
    chunks: list[bytes] = []
    new: Stamped = {}
    aside: Aside = {}
    for packed, some, strange in _chunks(folder, unknown):
        new |= record_index.unpack(packed) if packed else some
        aside |= strange
        chunks.append(packed)
    if len(new) >= CHUNK:
        whole = not known and all(chunks)
        record_index.save(folder, chunks if whole else [record_index.pack(known | new)])
    return {name: made for name, (_, made) in (known | new).items()}, aside


def _chunks(folder: Path, names: Sequence[str]) -> Iterator[tuple[bytes, Stamped, Aside]]:
    """Read files, very many by all cores: yield packed records, or else the records themselves."""
    cores = len(os.sched_getaffinity(0))
    # Where torch has been loaded its threads may run, which a fork would lose.
    if len(names) < MANY or cores == 1 or "torch" in sys.modules:
        yield b"", *_read_some(folder, names)
        return
    parts = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    try:
        pool = multiprocessing.get_context("fork").Pool(cores)
    except OSError:  # its locks need /dev/shm
        yield b"", *_read_some(folder, names)
        return
    with pool:
        yield from pool.imap(functools.partial(_read_packed, folder), parts)


def _read_packed(folder: Path, names: Sequence[str]) -> tuple[bytes, Stamped, Aside]:
    """Read files in a process that helps: packed records are sent faster than objects."""
    with no_collection():
        found, aside = _read_some(folder, names)
        packed = record_index.pack(found)
    return packed, {} if packed else found, aside


def read_record(path: Path) -> TrialRecord:
    """Read one record.

    Raises:
        BadInput: the file is not a whole record of a schema version known here.
    """
    return _read(str(path))[1]


def _read(path: str) -> tuple[Stamp, TrialRecord]:
    """Return a record, and the stamp of its file from before it was read."""
    text = b""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a third of Path.read_bytes
        try:
            about = os.fstat(descriptor)
            while len(text) < about.st_size and (more := os.read(descriptor, about.st_size)):
                text += more
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInput(f"{path}: not a readable record ({error})") from error
    return stamp(about), fast_record(text) or _validated(path, text)


def _validated(path: str, text: bytes) -> TrialRecord:
    try:
        data = orjson.loads(text)
    except ValueError as error:
        raise BadInput(f"{path}: not a readable record ({error})") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path}: not a record (a JSON object was expected)")
    try:
        return TrialRecord.model_validate_json(json.dumps(upgrade(data)))
    except (KeyError, AttributeError, TypeError) as error:
        raise BadInput(f"{path}: not a valid record ({type(error).__name__}: {error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: not a valid record ({place}: {first['msg']})") from error
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Let nobody look for garbage among a hundred thousand records while they are being made."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
