"""Read records from their files, one or a whole folder."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import read_bytes
from bsrbench.harness.records.record_validation import named, validated
from bsrbench.harness.records.trial_record import TrialRecord

MANY = 5000  # records; with more, garbage collection costs more than it frees


def record_names(folder: Path) -> list[str]:
    """Return the names of the record files in a folder, sorted.

    Raises:
        BadInput: the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        raise BadInput(f"cannot read {folder}: {error.strerror}") from error
    return sorted(name for name in names if name.endswith(".json") and not name.startswith("."))


def read_folder(folder: Path) -> tuple[list[TrialRecord], list[str]]:
    """Return every readable record of a folder, oldest first, and why others cannot be read."""
    names = record_names(folder)
    read: list[tuple[str, str, TrialRecord]] = []
    aside: list[str] = []
    for name in names:
        try:
            record = _read(f"{folder}/{name}")
        except BadInput as error:
            aside.append(str(error))
        else:
            read.append((record.finished_at, name, record))
    if len(names) > MANY:
        gc.freeze()  # the records are used until the process ends
    read.sort(key=lambda each: each[:2])
    return [record for _, _, record in read], aside


def read_record(path: Path) -> TrialRecord:
    """Read one record.

    Raises:
        BadInput: the file is not a complete record of a known schema version.
    """
    return _read(str(path))


def _read(path: str) -> TrialRecord:
    try:
        text = read_bytes(path)
    except OSError as error:
        reason = getattr(error, "strerror", None) or error
        raise named(path, BadInput(f"not a readable record ({reason})")) from error
    try:
        return validated(text)
    except BadInput as error:
        raise named(path, error) from error


@contextmanager
def no_collection() -> Iterator[None]:
    """Disable garbage collection, which is slow while very many records are created."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
