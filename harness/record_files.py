"""Read records from their files: one, or a folder of very many."""

import gc
import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from pydantic import ValidationError

from harness import record_index
from harness.errors import BadInput
from harness.record import TrialRecord, fast_record
from harness.upgrade import upgrade

MANY, CHUNK = 5000, 500  # records from which on they are indexed and read by several processes


def read_folder(folder: Path) -> tuple[list[TrialRecord], list[str]]:
    """Return every readable record of a folder, oldest first, and why the others were set aside."""
    now = record_index.stamps(folder)
    known = record_index.load(folder, now) if len(now) >= MANY else {}
    unknown = [name for name in now if name not in known]
    read = zip(unknown, _read_all([str(folder / name) for name in unknown]), strict=True)
    found: dict[str, TrialRecord | str] = {**known, **dict(read)}
    good = {name: found[name] for name in now}
    records = {name: one for name, one in good.items() if isinstance(one, TrialRecord)}
    aside = [reason for reason in good.values() if isinstance(reason, str)]
    if len(now) >= MANY:
        if len(unknown) - len(aside) >= CHUNK:
            record_index.save(folder, records, now)
        gc.freeze()  # they live to the end, and looking through them takes a third of a report
    return sorted(records.values(), key=lambda record: record.finished_at), aside


def _read_all(paths: list[str]) -> Iterator[TrialRecord | str]:
    """Yield records, or why one could not be read; of very many by all cores."""
    cores = len(os.sched_getaffinity(0))
    # Where torch has been loaded its threads may run, which a fork would lose.
    if len(paths) < MANY or cores == 1 or "torch" in sys.modules:
        yield from _read_some(paths)
        return
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    try:
        pool = multiprocessing.get_context("fork").Pool(cores)
    except OSError:  # its locks need /dev/shm
        yield from _read_some(paths)
        return
    with pool:
        for found in pool.imap(_read_some, chunks):
            yield from found


def _read_some(paths: list[str]) -> list[TrialRecord | str]:
    found: list[TrialRecord | str] = []
    for path in paths:
        try:
            found.append(read_record(Path(path)))
        except BadInput as error:
            found.append(str(error))
    return found


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
