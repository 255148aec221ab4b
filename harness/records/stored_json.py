"""Read the other JSON files of a results folder: sidecars, staged passes, progress."""

from pathlib import Path
from typing import Any

import orjson

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import read_bytes
from bsrbench.harness.plain_data import fault_in
from bsrbench.harness.records.record_validation import plainly_text
from bsrbench.harness.records.sidecar import Sidecar, sidecar_from
from bsrbench.harness.visible_text import visible, visible_in

MOST_KEPT = 64 * 2**20  # size limit of a sidecar or a staged pass


def read_sidecar(path: Path) -> Sidecar:
    """Return the content of a sidecar, with control characters escaped.

    Raises:
        BadInput: it cannot be read, or contains something that no pass writes.
    """
    text = _text(path)
    loaded = _parsed(path, text)
    if not plainly_text(text):
        loaded = visible_in(loaded)
    try:
        return sidecar_from(loaded)
    except ValueError as error:
        raise BadInput(visible(f"{path}: not a sidecar ({error})")) from error


def json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, after checking its numbers and nesting.

    Raises:
        BadInput: the file cannot be read, or contains something else.
    """
    loaded = _parsed(path, _text(path))
    if fault := fault_in(loaded):
        raise BadInput(visible(f"{path}: not readable ({fault})"))
    return loaded


def _text(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_KEPT)
    except OSError as error:
        raise BadInput(visible(f"{path}: not readable ({error.strerror})")) from error


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        loaded = orjson.loads(text)
    except ValueError as error:
        raise BadInput(visible(f"{path}: not readable ({error})")) from error
    if not isinstance(loaded, dict):
        raise BadInput(visible(f"{path}: not readable (expected a JSON object)"))
    return loaded


def is_there(path: Path) -> bool:
    """Return whether a path exists, including a broken link."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
