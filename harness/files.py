"""Write files whole or not at all; where files are kept, and their hashes."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.errors import BadInput


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees all of it or the file as it was before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside ``path``, then put it in its place."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def cache_folder() -> Path:
    """Return where what was made once is kept: ``BSRBENCH_CACHE``, else the user's cache.

    Raises:
        BadInput: the user has no home, and the environment names no place.
    """
    if own := os.environ.get("BSRBENCH_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "bsrbench"
    try:
        return Path.home() / ".cache" / "bsrbench"
    except RuntimeError as error:
        raise BadInput("there is no home folder to keep a cache in: set BSRBENCH_CACHE") from error


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
