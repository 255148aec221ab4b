"""Results folders looked after: examined, put in order, merged. No record is ever deleted."""

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.files import write_whole
from harness.record import TrialRecord
from harness.record_files import read_record
from harness.record_key import read_key, settings_hash
from harness.store import DETAILS, RECORDS, STAGED

ASIDE = "aside"
IN_FLIGHT_SECONDS = 60  # a younger temporary file may still be somebody's


@dataclass(frozen=True)
class Trouble:
    """A file that is not as it should be.

    Attributes:
        path: which.
        what: what is wrong with it.
        target: where ``repair`` moves it; ``None`` removes it, for it holds nothing.
    """

    path: Path
    what: str
    target: Path | None


@dataclass
class Merged:
    """What a merge did.

    Attributes:
        copied: keys of the records that were new.
        same: how many were there already.
        conflicts: in words, the records whose key is there with another content.
        unreadable: why files were left out.
    """

    copied: list[str] = field(default_factory=list)
    same: int = 0
    conflicts: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def examine(folder: Path) -> list[Trouble]:
    """Return every file of a results folder that is not as it should be.

    Raises:
        BadInput: it is no results folder.
    """
    _require(folder)
    found = list(_of_records(folder))
    renamed = {t.target.name for t in found if t.target and t.target.parent.name == RECORDS}
    bad = {t.path.name for t in found if t.target and t.target.parent.name == ASIDE}
    for path in sorted((folder / DETAILS).glob("*.json")):
        what = _fault_of_sidecar(path)
        if not what and path.name in bad:
            what = "the sidecar of such a record"
        there = path.name in renamed or (folder / RECORDS / path.name).exists()
        if not what and not there:
            what = "a sidecar without its record: a run was killed between the two"
        if what:
            found.append(Trouble(path, what, folder / ASIDE / f"sidecar-{path.name}"))
    return [*found, *_leftovers(folder)]


def repair(folder: Path) -> list[Trouble]:
    """Move what is not as it should be out of the way, and return what that was.

    Raises:
        BadInput: it is no results folder, or cannot be written.
    """
    found = examine(folder)
    try:
        for trouble in found:
            if trouble.target is None:
                trouble.path.unlink(missing_ok=True)
            else:
                trouble.target.parent.mkdir(exist_ok=True)
                trouble.path.rename(_free(trouble.target))
    except OSError as error:
        raise BadInput(f"cannot repair {folder}: {error.strerror}") from error
    return found


def merge(into: Path, others: Iterable[Path]) -> Merged:
    """Copy the records of other folders, with their sidecars, into one.

    A record whose key is there with another content is left where it is, and named.

    Raises:
        BadInput: a folder is no results folder, or the target cannot be written.
    """
    done = Merged()
    sources = list(others)
    for source in sources:
        _require(source)
    try:
        for name in (RECORDS, DETAILS):
            (into / name).mkdir(parents=True, exist_ok=True)
        for source in sources:
            for path in sorted((source / RECORDS).glob("*.json")):
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
    target = into / RECORDS / f"{record.key}.json"
    if target.exists():
        there = read_record(target)
        if there == record:
            done.same += 1
        else:
            places = ", ".join(_differing(there, record))
            done.conflicts.append(f"{record.key}: {target} and {path} differ in {places}")
        return
    sidecar = path.parent.parent / DETAILS / path.name
    if sidecar.exists():
        text = sidecar.read_text(encoding="utf-8")
        write_whole(into / DETAILS / f"{record.key}.json", text)
    write_whole(target, path.read_text(encoding="utf-8"))
    done.copied.append(record.key)


def _require(folder: Path) -> None:
    if not (folder / RECORDS).is_dir():
        raise BadInput(
            f"no folder {str(folder / RECORDS)!r}; expected a results folder that "
            "'bsrbench run' made"
        )


def _of_records(folder: Path) -> Iterator[Trouble]:
    for path in sorted((folder / RECORDS).glob("*.json")):
        aside = folder / ASIDE / path.name
        try:
            record = read_record(path)
        except BadInput as error:
            yield Trouble(path, str(error).removeprefix(f"{path}: "), aside)
            continue
        right = path.with_name(f"{record.key}.json")
        if right != path:
            what = f"its name is not its key {record.key}"
            yield Trouble(path, what, aside if right.exists() else right)
        elif what := _fault_of_key(record):
            yield Trouble(path, what, aside)


def _fault_of_key(record: TrialRecord) -> str:
    """Return in what a record's key does not fit what the record states; empty if it does."""
    key, environment = read_key(record.key), record.environment
    if key is None or key.trial != record.spec.trial_id():
        return "its key is not that of its spec: one of them was changed"
    if key.machine != environment["machine_id"]:
        return "its key is not that of its machine: one of them was changed"
    if key.settings is None:  # a record of schema 5 or before states no settings
        return ""
    stated = settings_hash(
        record.spec, environment.get("versions", {}), environment.get("settings", {})
    )
    if key.settings != stated:
        return "its key is not that of its settings and versions: one of them was changed"
    return ""


def _fault_of_sidecar(path: Path) -> str:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return f"not a readable sidecar ({error})"
    return "" if isinstance(loaded, dict) else "not a sidecar (a JSON object was expected)"


def _leftovers(folder: Path) -> Iterator[Trouble]:
    """Yield temporary files that a killed process left."""
    for name in (RECORDS, DETAILS, STAGED):
        for path in sorted((folder / name).glob(".*")):
            try:
                age = time.time() - path.stat().st_mtime
            except FileNotFoundError:
                continue
            if age > IN_FLIGHT_SECONDS:
                yield Trouble(path, "half a file of a process that was killed", None)


def _differing(one: TrialRecord, other: TrialRecord) -> list[str]:
    """Return which parts of two records differ, measurements by name."""
    parts = [
        name
        for name in TrialRecord.model_fields
        if name != "measurements" and getattr(one, name) != getattr(other, name)
    ]
    measured: dict[str, Any] = one.measurements | other.measurements
    return parts + [
        name for name in measured if one.measurements.get(name) != other.measurements.get(name)
    ]


def _free(path: Path) -> Path:
    """Return the path, or the first of its numbered neighbours that nobody has."""
    found, number = path, 1
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
