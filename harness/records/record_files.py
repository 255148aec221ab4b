"""Read records from their files: one, or a folder of very many."""

import functools
import gc
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import read_with_status
from bsrbench.harness.records import record_index
from bsrbench.harness.records.file_stamp import Stamp, stamp
from bsrbench.harness.records.record_packing import Stamped, pack, unpack
from bsrbench.harness.records.record_text import fast_record
from bsrbench.harness.records.record_validation import named, validated
from bsrbench.harness.records.trial_record import TrialRecord

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
        new |= unpack(packed) if packed else some
        aside |= strange
        chunks.append(packed)
    if len(new) >= CHUNK:
        whole = not known and all(chunks)
        record_index.save(folder, chunks if whole else [pack(known | new)])
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
        packed = pack(found)
    return packed, {} if packed else found, aside


def read_record(path: Path) -> TrialRecord:
    """Read one record.

    Raises:
        BadInput: the file is not a whole record of a schema version known here.
    """
    return _read(str(path))[1]


def _read(path: str) -> tuple[Stamp, TrialRecord]:
    """Return a record, and the stamp of its file from before it was read."""
    try:
        text, about = read_with_status(path)
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise named(path, BadInput(f"not a readable record ({reason})")) from error
    try:
        return stamp(about), fast_record(text) or validated(text)
    except BadInput as error:
        raise named(path, error) from error


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
