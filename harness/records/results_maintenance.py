"""Find the damaged files of a results folder, and move them aside.

No record is ever deleted.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_content import CHANGED
from bsrbench.harness.records.record_files import read_record, record_names
from bsrbench.harness.records.record_key import OTHER_SPEC, read_key, settings_hash
from bsrbench.harness.records.staleness import MadeBy
from bsrbench.harness.records.store import DETAILS, PROGRESS, RECORDS, STAGED, Store
from bsrbench.harness.records.stored_json import read_sidecar
from bsrbench.harness.records.trial_record import TrialRecord

ASIDE = "aside"
IN_FLIGHT_SECONDS = 60  # a younger temporary file may still be in use


@dataclass(frozen=True)
class FileTrouble:
    """A damaged file.

    Attributes:
        path: the file.
        what: what is wrong with it.
        target: where ``repair`` moves it; ``None`` removes it, because it contains no result.
    """

    path: Path
    what: str
    target: Path | None


@dataclass
class Survey:
    """The result of checking a results folder.

    Attributes:
        troubles: every damaged file.
        unhashed: number of records without a hash of their content (schema 6 and older).
        made_by: number of records of each method and source.
    """

    troubles: list[FileTrouble] = field(default_factory=list)
    unhashed: int = 0
    made_by: Counter[MadeBy] = field(default_factory=Counter)


def examine(folder: Path) -> list[FileTrouble]:
    """Return every damaged file of a results folder.

    Raises:
        BadInput: it is not a results folder.
    """
    return survey(folder).troubles


def survey(folder: Path) -> Survey:
    """Check every file of a results folder.

    Raises:
        BadInput: it is not a results folder.
    """
    require_records(folder)
    whole = Survey()
    troubles = list(_of_records(folder, whole))
    renamed = {t.target.name for t in troubles if t.target and t.target.parent.name == RECORDS}
    bad = {t.path.name for t in troubles if t.target and t.target.parent.name == ASIDE}
    details = folder / DETAILS
    for path in files_in(details) if details.is_dir() else ():
        what = sidecar_fault(path)
        if not what and path.name in bad:
            what = "the sidecar of a damaged record"
        has_record = path.name in renamed or (folder / RECORDS / path.name).exists()
        if not what and not has_record:
            what = "a sidecar without a record: a run was killed between writing the two"
        if what:
            troubles.append(FileTrouble(path, what, folder / ASIDE / f"sidecar-{path.name}"))
    whole.troubles = [*troubles, *_of_staged(folder), *_leftovers(folder)]
    return whole


def repair(folder: Path) -> list[FileTrouble]:
    """Move the damaged files aside, and return what was wrong with them.

    Raises:
        BadInput: it is not a results folder, or cannot be written.
    """
    troubles = examine(folder)
    try:
        for trouble in troubles:
            Store(folder).set_aside(trouble.path, trouble.target)
    except OSError as error:
        raise BadInput(f"cannot repair {folder}: {error.strerror}") from error
    return troubles


def files_in(folder: Path) -> list[Path]:
    """Return the paths of the JSON files in a folder, sorted by name.

    Raises:
        BadInput: the folder cannot be read.
    """
    return [folder / name for name in record_names(folder)]


def require_records(folder: Path) -> None:
    """Check that a folder is a results folder.

    Raises:
        BadInput: it has no folder of records.
    """
    if not (folder / RECORDS).is_dir():
        raise BadInput(
            f"no folder {str(folder / RECORDS)!r}; expected a results folder of 'bsrbench run'"
        )


def _of_records(folder: Path, whole: Survey) -> Iterator[FileTrouble]:
    for path in files_in(folder / RECORDS):
        aside = folder / ASIDE / path.name
        try:
            record = read_record(path)
        except BadInput as error:
            yield FileTrouble(path, str(error).removeprefix(f"{path}: "), aside)
            continue
        whole.unhashed += record.content_sha256 is None
        if (key := read_key(record.key)) is not None:
            whole.made_by[MadeBy.of(record.spec.method, key)] += 1
        right = path.with_name(f"{record.key}.json")
        if right != path:
            what = f"the file's name differs from the record's key {record.key}"
            yield FileTrouble(path, what, aside if right.exists() else right)
        elif what := CHANGED if record.changed() else _fault_of_key(record):
            yield FileTrouble(path, what, aside)


def _fault_of_key(record: TrialRecord) -> str:
    """Return how a record's key does not match its content; empty if it does."""
    key, environment = read_key(record.key), record.environment
    if key is None:
        return OTHER_SPEC
    if key.machine != environment.machine_id:
        return "its key does not match its machine: one of them was changed"
    if key.settings is None:  # a record of schema 5 or older has no settings
        return ""
    expected = settings_hash(record.spec, environment.versions, environment.settings or {})
    if key.settings != expected:
        return "its key does not match its settings and versions: one of them was changed"
    return ""


def sidecar_fault(path: Path) -> str:
    """Return why a sidecar cannot be used; empty if it can."""
    try:
        read_sidecar(path)
    except BadInput as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


def _of_staged(folder: Path) -> Iterator[FileTrouble]:
    """Yield staged files that no run can use; a run would report and ignore them each time."""
    store = Store(folder)
    for path in sorted((folder / STAGED).glob("[!.]*")):
        if what := _fault_of_staged(store, path):
            yield FileTrouble(path, what, folder / ASIDE / f"staged-{path.name}")


def _fault_of_staged(store: Store, path: Path) -> str:
    key, _, name = path.name.removesuffix(".json").rpartition(".")
    try:
        if path.name == PROGRESS:
            store.progress()
        elif path.suffix == ".json":
            store.staged(key, name)
        elif not path.is_file() or path.is_symlink():
            return "expected a regular file"
    except BadInput as error:
        return str(error).removeprefix(f"{path}: ").partition("; remove it")[0]
    return ""


def _leftovers(folder: Path) -> Iterator[FileTrouble]:
    """Yield temporary files that a killed process left."""
    for name in (RECORDS, DETAILS, STAGED):
        for path in sorted((folder / name).glob(".*")):
            try:
                age = time.time() - path.stat().st_mtime
            except FileNotFoundError:
                continue
            if age > IN_FLIGHT_SECONDS:
                yield FileTrouble(path, "an incomplete file of a killed process", None)
