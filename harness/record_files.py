"""Read records from their files: one, or a folder of very many."""

import functools
import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from pydantic import ValidationError

from harness import record_index
from harness.errors import BadInput
from harness.record import TrialRecord, fast_record
from harness.upgrade import upgrade

MANY, CHUNK = 5000, 500  # records from which on they are indexed and read by several processes
Stamps = dict[str, record_index.Stamp]  # by file names
Aside = dict[str, str]  # file name -> why it was set aside
Chunk = tuple[bytes, dict[str, TrialRecord], Aside]  # packed records, else the records themselves


def read_folder(folder: Path) -> tuple[list[TrialRecord], list[str]]:
    """Return every readable record of a folder, oldest first, and why the others were set aside."""
    now = record_index.stamps(folder)
    if len(now) < MANY:
        found, aside = _read_some(folder, now)
    else:
        found, aside = _read_many(folder, now)
        gc.freeze()  # they live to the end, and looking through them takes a third of a report
    records = sorted(found.items(), key=lambda item: (item[1].finished_at, item[0]))
    return [made for _, made in records], [aside[name] for name in sorted(aside)]


def _read_some(folder: Path, names: Iterable[str]) -> tuple[dict[str, TrialRecord], Aside]:
    found: dict[str, TrialRecord] = {}
    aside: Aside = {}
    for name in names:
        try:
            found[name] = read_record(folder / name)
        except BadInput as error:
            aside[name] = str(error)
    return found, aside


def _read_many(folder: Path, now: Stamps) -> tuple[dict[str, TrialRecord], Aside]:
    """Read what the index does not know, with all cores where that is much, and keep it there."""
    found = record_index.load(folder, now)
    unknown = {name: stamp for name, stamp in now.items() if name not in found}
    chunks: list[bytes] = []
    aside: Aside = {}
    for packed, some, strange in _chunks(folder, unknown):
        found |= record_index.unpack(packed) if packed else some
        aside |= strange
        chunks.append(packed)
    if len(unknown) - len(aside) >= CHUNK:
        whole = len(unknown) == len(now) and all(chunks)
        record_index.save(folder, chunks if whole else [record_index.pack(found, now)])
    return found, aside


def _chunks(folder: Path, unknown: Stamps) -> Iterator[Chunk]:
    """Read files, very many by all cores."""
    cores = len(os.sched_getaffinity(0))
    # Where torch has been loaded its threads may run, which a fork would lose.
    if len(unknown) < MANY or cores == 1 or "torch" in sys.modules:
        yield b"", *_read_some(folder, unknown)
        return
    names = list(unknown)
    starts = range(0, len(names), CHUNK)
    parts = [{name: unknown[name] for name in names[start : start + CHUNK]} for start in starts]
    try:
        pool = multiprocessing.get_context("fork").Pool(cores)
    except OSError:  # its locks need /dev/shm
        yield b"", *_read_some(folder, unknown)
        return
    with pool:
        yield from pool.imap(functools.partial(_read_packed, folder), parts)


def _read_packed(folder: Path, part: Stamps) -> Chunk:
    """Read files in a process that helps: packed records are sent faster than objects."""
    with no_collection():
        found, aside = _read_some(folder, part)
        packed = record_index.pack(found, part)
    return packed, {} if packed else found, aside


def read_record(path: Path) -> TrialRecord:
    """Read one record.

    Raises:
        BadInput: the file is not a whole record of a schema version known here.
    """
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - twice as fast
            data = orjson.loads(file.read())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not a readable record ({error})") from error
    if not isinstance(data, dict):
        raise BadInput(f"{path}: not a record (a JSON object was expected)")
    if (made := fast_record(data)) is not None:
        return made
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
