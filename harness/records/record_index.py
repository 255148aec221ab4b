"""What was read from a large results folder, kept in the cache for the next report.

Reading a hundred thousand files takes as long as all that a report does with them. The index is
lines of records, in each line every repeated part once. It is never the only copy of anything,
and a file that is not as it was when it was read is read again.
"""

import functools
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson
import pydantic

from bsrbench.harness import plain_data, visible_text
from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import cache_folder, read_bytes, write_whole
from bsrbench.harness.records import (
    environment_text,
    file_stamp,
    measurements_text,
    memory_metrics,
    metric,
    metric_bounds,
    metrics,
    record_content,
    record_key,
    record_packing,
    record_text,
    record_validation,
    schema_upgrade,
    spec_text,
    text_cutting,
    training_metrics,
    trial_record,
    work_metrics,
)
from bsrbench.harness.records.file_stamp import present_stamp
from bsrbench.harness.records.record_packing import Plain, Stamped, unpack
from bsrbench.harness.spec import frozen_data, multitask, trial_spec
from bsrbench.harness.spec.frozen_data import digest

ABANDONED_SECONDS = 3600.0  # after which nobody is still writing an index
LARGEST_INDEX = 2**32  # bytes; of a hundred thousand records it has about a hundredth
DAMAGES = (OSError, ValueError, LookupError, TypeError, AttributeError)  # of an index
# What decides what is read from a file.
DECIDING = (
    *(metric, memory_metrics, work_metrics, training_metrics),
    *(frozen_data, metrics, metric_bounds, plain_data, trial_record, record_content, record_key),
    *(record_text, text_cutting, spec_text, measurements_text, environment_text),
    *(record_validation, trial_spec, multitask, schema_upgrade, visible_text),
    *(record_packing, file_stamp),
)


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
        name: known
        for name, known in found.items()
        if known[0] and known[0] == present_stamp(start + name)
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
