"""Which cross-checks of its meters a device passed, by the last run of ``bsrbench doctor``.

The result is kept in the cache folder. Records that are made later on the same device, with the
same driver and the same version of torch, contain it.
"""

import hashlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import MIB, cache_folder, make_folder, read_bytes, write_whole
from bsrbench.harness.records.environment import machine_id

DOCTOR = "doctor"  # key of an examination in ``Environment.device``
MOST_BYTES = MIB
HASH_DIGITS = 16


class DeviceExamination(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The result of examining one device.

    Attributes:
        finished_at: when the examination ended, UTC, ISO 8601.
        torch: version of torch.
        driver: version of the device's driver; ``None`` if it has none or does not report it.
        passed: the checks whose reading was right.
        failed: the checks whose reading was wrong.
    """

    finished_at: str
    torch: str = ""
    driver: str | None = None
    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def store_examination(
    kind: str, described: Mapping[str, Any], examination: DeviceExamination
) -> None:
    """Keep the result of examining a device of this machine; it replaces an earlier one.

    Args:
        kind: type of the device, as torch names it.
        described: what the device reports about itself.
        examination: the result, without versions.

    Raises:
        BadInput: it cannot be written.
    """
    versioned = msgspec.structs.replace(
        examination, torch=_torch_version(), driver=_driver(described)
    )
    path = _path(kind, described)
    try:
        make_folder(path.parent)
        write_whole(path, msgspec.json.encode(versioned))
    except OSError as error:
        raise BadInput(
            f"the results cannot be kept in {path.parent} ({error.strerror or error}): free some "
            "space, or set BSRBENCH_CACHE to another folder"
        ) from error


def last_examination(kind: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the last examination of a device, in the form in which a record contains it.

    It is empty if there was none with this driver and this version of torch, or if the kept result
    cannot be read.

    Args:
        kind: type of the device, as torch names it.
        described: what the device reports about itself.
    """
    try:
        text = read_bytes(_path(kind, described), MOST_BYTES)
        examination = msgspec.json.decode(text, type=DeviceExamination)
    except (OSError, BadInput, msgspec.MsgspecError):
        return {}
    if (examination.torch, examination.driver) != (_torch_version(), _driver(described)):
        return {}
    plain: dict[str, Any] = msgspec.to_builtins(examination)
    return {DOCTOR: {name: value for name, value in plain.items() if value is not None}}


def examination_in(device: Mapping[str, Any]) -> DeviceExamination | None:
    """Return the examination in a record's description of its device; ``None`` if it has none."""
    try:
        return msgspec.convert(device[DOCTOR], DeviceExamination)
    except (KeyError, msgspec.ValidationError):
        return None


def _path(kind: str, described: Mapping[str, Any]) -> Path:
    identity = "|".join([machine_id(), kind, str(described.get("device"))])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:HASH_DIGITS]
    return cache_folder() / f"doctor-{digest}.json"


def _driver(described: Mapping[str, Any]) -> str | None:
    driver = described.get("driver")
    return None if driver is None else str(driver)


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return ""  # reports can be made without torch
