"""Copy the records of several results folders into one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import read_bytes
from bsrbench.harness.records.record_content import CHANGED, HASH
from bsrbench.harness.records.record_files import read_record
from bsrbench.harness.records.results_maintenance import (
    files_in,
    require_records,
    sidecar_fault,
)
from bsrbench.harness.records.store import DETAILS, RECORDS, Store
from bsrbench.harness.records.stored_json import MOST_KEPT
from bsrbench.harness.records.trial_record import TrialRecord


@dataclass
class Merged:
    """The result of a merge.

    Attributes:
        copied: keys of the copied records.
        same: number of records that were there already.
        conflicts: messages about records whose key exists with different content.
        unreadable: why files were not copied.
    """

    copied: list[str] = field(default_factory=list)
    same: int = 0
    conflicts: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def merge(into: Path, others: Iterable[Path]) -> Merged:
    """Copy the records of other folders, with their sidecars, into one.

    A record whose key exists there with different content is not copied; it is a conflict.

    Raises:
        BadInput: a folder is not a results folder, or the target cannot be written.
    """
    done = Merged()
    sources = list(others)
    for source in sources:
        require_records(source)
    try:
        for source in sources:
            for path in files_in(source / RECORDS):
                _merge_one(path, into, done)
    except OSError as error:
        raise BadInput(f"cannot merge into {into}: {error.strerror}") from error
    return done


def _merge_one(path: Path, into: Path, done: Merged) -> None:
    try:
        record = read_record(path)
    except BadInput as error:
        done.unreadable.append(str(error))
        return
    if record.changed():
        done.unreadable.append(f"{path}: {CHANGED}")
        return
    target = into / RECORDS / f"{record.key}.json"
    if target.exists() or target.is_symlink():
        _put_against(target, path, record, done)
        return
    sidecar, content = path.parent.parent / DETAILS / f"{record.key}.json", None
    if sidecar.exists() or sidecar.is_symlink():
        if fault := sidecar_fault(sidecar):
            done.unreadable.append(f"{sidecar}: {fault}; its record was copied without it")
        else:
            content = read_bytes(sidecar, MOST_KEPT)
    Store(into).copy_in(record.key, read_bytes(path), content)
    done.copied.append(record.key)


def _put_against(target: Path, path: Path, record: TrialRecord, done: Merged) -> None:
    """Compare a record with the existing one of the same key, and note the result."""
    try:
        there = read_record(target)
    except BadInput as error:
        done.conflicts.append(f"{record.key}: the existing record cannot be read ({error})")
        return
    if there == record:
        done.same += 1
        return
    places = ", ".join(_differing(there, record))
    done.conflicts.append(f"{record.key}: {target} and {path} differ in {places}")


def _differing(first: TrialRecord, second: TrialRecord) -> list[str]:
    """Return the names of the fields and of the measurements in which two records differ."""
    parts = [
        name
        for name in TrialRecord.__struct_fields__
        if name not in ("measurements", HASH) and getattr(first, name) != getattr(second, name)
    ]
    measured: dict[str, Any] = first.measurements | second.measurements
    return parts + [
        name for name in measured if first.measurements.get(name) != second.measurements.get(name)
    ]
