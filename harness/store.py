"""The only code that reads or writes results folders."""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.files import write_whole
from harness.numbering import Numbering
from harness.record import TrialRecord
from harness.record_files import no_collection, read_folder, read_record

RECORDS, DETAILS, STAGED, LOGS = "records", "details", ".staged", "logs"
PROGRESS = "progress.run"


class Store:
    """A results folder: ``records/*.json``, their sidecars in ``details/``, staged passes.

    Every file is written whole or not at all, so a run can be killed at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_for_writing(self) -> None:
        """Make the folders and prove that they can be written to.

        Raises:
            BadInput: the folder cannot be made or written.
        """
        try:
            for name in (RECORDS, DETAILS, STAGED):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / STAGED / "probe", "")
            (self.folder / STAGED / "probe").unlink(missing_ok=True)  # another run does the same
        except OSError as error:
            raise BadInput(
                f"cannot write results into {self.folder}: {error.strerror}; "
                "choose another folder with --results"
            ) from error

    def save(self, record: TrialRecord, detail: dict[str, Any]) -> Path:
        """Store a record and its sidecar, drop its staged passes, return the record's path.

        Raises:
            BadInput: the disk is full, or the folder gone or closed.
        """
        path = self.folder / RECORDS / f"{record.key}.json"
        if detail:
            text = json.dumps(detail, allow_nan=False, separators=(",", ":")) + "\n"
            _write(self.folder / DETAILS / f"{record.key}.json", text)
        _write(path, _dump(record.model_dump(mode="json")))
        self.unstage(record.key)
        return path

    def record(self, key: str) -> TrialRecord | None:
        """Return the record with this key, or ``None``."""
        path = self.folder / RECORDS / f"{key}.json"
        return read_record(path) if path.exists() else None

    def detail(self, key: str) -> dict[str, Any]:
        """Return a record's sidecar; empty where there is none."""
        path = self.folder / DETAILS / f"{key}.json"
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise BadInput(f"{path}: not readable ({error})") from error
        return loaded

    def stage(self, key: str, pass_name: str, result: dict[str, Any]) -> None:
        """Keep the result of one pass of a trial that is not complete yet.

        Raises:
            BadInput: the disk is full, or the folder gone or closed.
        """
        _write(self.folder / STAGED / f"{key}.{pass_name}.json", _dump(result))

    def staged(self, key: str, pass_name: str) -> dict[str, Any] | None:
        """Return a pass kept by ``stage``, or ``None``.

        Raises:
            BadInput: the file was changed by hand.
        """
        path = self.folder / STAGED / f"{key}.{pass_name}.json"
        try:
            loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise BadInput(f"{path}: not readable ({error}); remove it to run the pass") from error
        return loaded

    def staged_keys(self, pass_name: str) -> list[str]:
        """Return the keys under which a pass is kept by ``stage``."""
        ending = f".{pass_name}.json"
        names = (path.name for path in sorted((self.folder / STAGED).glob(f"*{ending}")))
        return [name.removesuffix(ending) for name in names if not name.startswith(".")]

    def checkpoint(self, key: str) -> Path:
        """Return where the training pass of a trial that is not complete yet keeps itself."""
        return (self.folder / STAGED / f"{key}.checkpoint.pt").resolve()

    def log(self, key: str, pass_name: str) -> Path:
        """Return where what a pass prints is kept."""
        return self.folder / LOGS / f"{key}.{pass_name}.log"

    def note_progress(self, count: dict[str, Any]) -> None:
        """Keep how far a run has come; a reader sees all of it or what was there before."""
        path = self.folder / STAGED / PROGRESS
        partial = path.with_name(f".{PROGRESS}.{os.getpid()}")
        with suppress(OSError):  # a full disk must not end a run for its progress
            partial.write_text(json.dumps(count), encoding="utf-8")
            partial.replace(path)

    def progress(self) -> dict[str, Any] | None:
        """Return how far the latest run has come; nothing where none has begun."""
        try:
            loaded = json.loads((self.folder / STAGED / PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return loaded if isinstance(loaded, dict) else None

    def unstage(self, key: str) -> None:
        """Drop what was staged under a key."""
        for staged in (self.folder / STAGED).glob(f"{key}.*"):
            staged.unlink(missing_ok=True)

    def records(self) -> tuple[list[TrialRecord], list[str]]:
        """Return every readable record, oldest first, and why the others were set aside."""
        if not (self.folder / RECORDS).is_dir():
            return [], []
        with no_collection():
            return read_folder(self.folder / RECORDS)


@dataclass(frozen=True)
class Gathered:
    """The records of several results folders.

    Attributes:
        records: each key once, oldest first.
        aside: why files were left out.
        stores: the folders they come from.
    """

    records: list[TrialRecord]
    aside: list[str]
    stores: tuple[Store, ...]

    def detail(self, key: str) -> dict[str, Any]:
        """Return a record's sidecar from the first folder that has one; empty without."""
        return next((found for store in self.stores if (found := store.detail(key))), {})


def gather(folders: Iterable[Path]) -> Gathered:
    """Read the records of results folders together.

    Of records with one key and different content nobody can say which is true: both are left out.

    Raises:
        BadInput: a folder holds no records.
    """
    stores = tuple(Store(folder) for folder in folders)
    by_key: dict[str, TrialRecord] = {}
    disputed: dict[str, str] = {}
    aside: list[str] = []
    for store in stores:
        if not (store.folder / RECORDS).is_dir():
            raise BadInput(
                f"no folder {str(store.folder / RECORDS)!r}; expected a results folder that "
                "'bsrbench run' made"
            )
        found, unreadable = store.records()
        aside += unreadable
        for record in found:
            other = by_key.setdefault(record.key, record)
            if other is not record and other != record:
                disputed[record.key] = f"{record.key}: two records with this key differ"
    kept = [record for key, record in by_key.items() if key not in disputed]
    kept.sort(key=lambda record: record.finished_at)
    return Gathered(kept, [*aside, *disputed.values()], stores)


def latest(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the newest record of each trial and machine; older ones are history."""
    number = Numbering()
    newest = {
        (number.of_trial(record.spec), record.environment.get("machine_id")): record
        for record in records
    }
    return list(newest.values())


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text)
    except OSError as error:
        raise BadInput(
            f"cannot write {path}: {error.strerror}; what was stored before is whole: once the "
            "folder can be written again, run the same command to go on"
        ) from error


def _dump(data: object) -> str:
    return json.dumps(data, indent=1, allow_nan=False) + "\n"
