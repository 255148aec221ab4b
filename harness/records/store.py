"""The only code that reads or writes results folders."""

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import make_folder, refuse_link, write_whole
from bsrbench.harness.plain_data import tidied
from bsrbench.harness.records.distinct_specs import DistinctSpecs
from bsrbench.harness.records.record_content import CHANGED, text_of
from bsrbench.harness.records.record_files import no_collection, read_folder, read_record
from bsrbench.harness.records.record_key import is_name, require_name
from bsrbench.harness.records.run_state import RunState
from bsrbench.harness.records.sidecar import NO_SIDECAR, Sidecar
from bsrbench.harness.records.stored_json import is_there, json_object, read_sidecar
from bsrbench.harness.records.trial_record import TrialRecord, plain_record
from bsrbench.harness.visible_text import visible_in

RECORDS, DETAILS, STAGED, LOGS = "records", "details", ".staged", "logs"
PROGRESS = "progress.run"


class Store:
    """A results folder: ``records/*.json``, their sidecars in ``details/``, and staged passes.

    A staged pass is the result of one pass of a trial that is not complete yet. Every file is
    written completely or not at all, so a run can be killed at any moment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open_for_writing(self) -> None:
        """Make the folders and check that they can be written to.

        Raises:
            BadInput: the folder cannot be made or written.
        """
        try:
            for name in (RECORDS, DETAILS, STAGED):
                make_folder(self.folder / name)
            write_whole(self.folder / STAGED / "probe", "")
            # The file may be gone: another run may have removed it.
            (self.folder / STAGED / "probe").unlink(missing_ok=True)
        except OSError as error:
            raise BadInput(
                f"cannot write results into {self.folder}: {error.strerror}; "
                "choose another folder with --results"
            ) from error

    def save(self, record: TrialRecord, sidecar: Sidecar = NO_SIDECAR) -> Path:
        """Store a record and its sidecar, remove its staged passes, and return the record's path.

        Raises:
            BadInput: the disk is full, or the folder is missing or not writable.
        """
        path = self._path(RECORDS, record.key, "json")
        if kept := visible_in(msgspec.to_builtins(sidecar)):
            text = json.dumps(kept, allow_nan=False, separators=(",", ":")) + "\n"
            _write(self._path(DETAILS, record.key, "json"), text)
        _write(path, text_of(plain_record(record)))
        self.unstage(record.key)
        return path

    def copy_in(self, key: str, record: bytes, sidecar: bytes | None) -> None:
        """Store a record of another results folder and its sidecar, byte for byte.

        Raises:
            OSError: they cannot be written.
        """
        for folder, content in ((DETAILS, sidecar), (RECORDS, record)):
            make_folder(self.folder / folder)
            if content is not None:
                write_whole(self._path(folder, key, "json"), content)

    def set_aside(self, path: Path, target: Path | None) -> None:
        """Move a file of this folder to an unused name, or remove it.

        Args:
            path: the file.
            target: the new path; a number is added if it exists. ``None`` removes the file.

        Raises:
            OSError: the file cannot be moved, or a folder is a link.
        """
        for name in (RECORDS, DETAILS, STAGED):
            refuse_link(self.folder / name)  # never move files of another folder
        if target is None:
            path.unlink(missing_ok=True)
        else:
            make_folder(target.parent)
            path.rename(_free(target))

    def record(self, key: str) -> TrialRecord | None:
        """Return the record with this key, or ``None``."""
        path = self._path(RECORDS, key, "json")
        return read_record(path) if path.exists() else None

    def detail(self, key: str) -> Sidecar:
        """Return a record's sidecar; ``NO_SIDECAR`` if there is none.

        Raises:
            BadInput: it cannot be read, or contains something that no pass writes.
        """
        path = self._path(DETAILS, key, "json")
        return read_sidecar(path) if is_there(path) else NO_SIDECAR

    def stage(self, key: str, pass_name: str, result: dict[str, Any]) -> None:
        """Keep the result of one pass of a trial that is not complete yet.

        Raises:
            BadInput: the disk is full, or the folder is missing or not writable.
        """
        path = self._path(STAGED, key, f"{pass_name}.json")
        _write(path, json.dumps(tidied(result), indent=1, allow_nan=False) + "\n")

    def staged(self, key: str, pass_name: str) -> dict[str, Any] | None:
        """Return a pass kept by ``stage``, or ``None``.

        Raises:
            BadInput: the file was changed by hand.
        """
        path = self._path(STAGED, key, f"{pass_name}.json")
        if not is_there(path):
            return None
        try:
            return json_object(path)
        except BadInput as error:
            raise BadInput(f"{error}; remove it to run the pass") from error

    def staged_keys(self, pass_name: str) -> list[str]:
        """Return the keys under which a pass is kept by ``stage``."""
        ending = f".{pass_name}.json"
        names = (path.name for path in sorted((self.folder / STAGED).glob(f"*{ending}")))
        keys = [name.removesuffix(ending) for name in names]
        return [key for key in keys if is_name(key)]

    def checkpoint(self, key: str) -> Path:
        """Return the checkpoint file of the training pass of an incomplete trial."""
        # The results folder itself may be a link; a link inside it is not allowed.
        return self.folder.resolve() / STAGED / f"{require_name(key)}.checkpoint.pt"

    def log(self, key: str, pass_name: str) -> Path:
        """Return the log file of a pass."""
        return self._path(LOGS, key, f"{pass_name}.log")

    def note_progress(self, count: dict[str, Any]) -> None:
        """Write the progress of a run atomically."""
        path = self.folder / STAGED / PROGRESS
        with suppress(OSError):  # a run must not fail because its progress cannot be written
            refuse_link(path.parent)
            write_whole(path, json.dumps(count), synced=False)

    def progress(self) -> dict[str, Any] | None:
        """Return the progress of the latest run; ``None`` if no run has begun.

        Raises:
            BadInput: the file is not one that a run writes.
        """
        path = self.folder / STAGED / PROGRESS
        return RunState.read(path, json_object(path)) if is_there(path) else None

    def unstage(self, key: str) -> None:
        """Delete the staged files of a key."""
        for staged in (self.folder / STAGED).glob(f"{require_name(key)}.*"):
            with suppress(OSError):  # a folder with this name; no program reads it
                staged.unlink(missing_ok=True)

    def records(self) -> tuple[list[TrialRecord], list[str]]:
        """Return every readable record, oldest first, and why the others cannot be read."""
        if not (self.folder / RECORDS).is_dir():
            return [], []
        with no_collection():
            return read_folder(self.folder / RECORDS)

    def _path(self, folder: str, key: str, ending: str) -> Path:
        """Return the path of the file of a key in a folder of the store.

        Raises:
            BadInput: the key is not a valid file name.
        """
        return self.folder / folder / f"{require_name(key)}.{ending}"


@dataclass(frozen=True)
class Gathered:
    """The records of several results folders.

    Attributes:
        records: one record per key, oldest first.
        aside: messages about files that were left out.
        stores: the folders of the records.
        doubts: warnings about the records: records that were changed after they were stored, and
            sidecars that cannot be read.
    """

    records: list[TrialRecord]
    aside: list[str]
    stores: tuple[Store, ...]
    doubts: list[str] = field(default_factory=list)

    def detail(self, key: str) -> Sidecar:
        """Return a record's sidecar from the first folder that has one; else ``NO_SIDECAR``.

        A sidecar that cannot be read is ignored and listed in ``doubts``.
        """
        for store in self.stores:
            try:
                sidecar = store.detail(key)
            except BadInput as error:
                if (doubt := str(error)) not in self.doubts:
                    self.doubts.append(doubt)
                continue
            if sidecar != NO_SIDECAR:
                return sidecar
        return NO_SIDECAR


def gather(folders: Iterable[Path]) -> Gathered:
    """Read the records of results folders together.

    If two records have the same key and different content, both are left out.

    Raises:
        BadInput: a folder is not a results folder.
    """
    stores = tuple(Store(folder) for folder in folders)
    by_key: dict[str, TrialRecord] = {}
    disputed: dict[str, str] = {}
    aside: list[str] = []
    for store in stores:
        if not (store.folder / RECORDS).is_dir():
            raise BadInput(
                f"no folder {str(store.folder / RECORDS)!r}; expected a results folder of "
                "'bsrbench run'"
            )
        records, unreadable = store.records()
        aside += unreadable
        for record in records:
            first = by_key.setdefault(record.key, record)
            if first is not record and first != record:
                disputed[record.key] = f"{record.key}: two records with this key differ"
    kept = [record for key, record in by_key.items() if key not in disputed]
    kept.sort(key=lambda record: record.finished_at)
    return Gathered(kept, [*aside, *disputed.values()], stores, changed_in(kept))


def changed_in(records: Iterable[TrialRecord]) -> list[str]:
    """Return a message for each record that was changed after it was stored."""
    return [f"{record.key}: {CHANGED}" for record in records if record.changed()]


def latest(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Return the newest record of each trial and machine."""
    number = DistinctSpecs()
    newest = {
        (number.of_trial(record.spec), record.environment.machine_id): record for record in records
    }
    return list(newest.values())


def _free(path: Path) -> Path:
    """Return an unused path: the given one, or the first free one with a number added."""
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _write(path: Path, text: str) -> None:
    try:
        refuse_link(path.parent)
        write_whole(path, text)
    except OSError as error:
        raise BadInput(
            f"cannot write {path}: {error.strerror}; everything stored before is intact: make the "
            "folder writable, then run the same command to resume"
        ) from error
