"""Write files whole or not at all; where files are kept, and their hashes."""

import codecs
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness.errors import BadInput

# UTF-32's first: little-endian, it begins as UTF-16's does.
FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def read_text(path: Path) -> str:
    """Return the text of a file that a person has written: UTF-8, a byte order mark left out.

    Every line ends in a line feed, whatever it ended in.

    Raises:
        BadInput: the file cannot be read, or is not UTF-8.
    """
    content = _bytes_of_text(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} is not UTF-8 text (byte {error.start} does not decode): save it as UTF-8"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def require_plain_text(path: Path) -> None:
    """Check that a file is text of one byte a letter, or UTF-8, as Python's own parser asks.

    Raises:
        BadInput: the file cannot be read, or is UTF-16, UTF-32 or binary.
    """
    _bytes_of_text(path)


def _bytes_of_text(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    for mark, encoding in FOREIGN_MARKS.items():
        if content.startswith(mark):
            raise BadInput(f"{path} is {encoding} text, expected UTF-8: save it as UTF-8")
    if b"\0" in content:
        raise BadInput(
            f"{path} has zero bytes, as UTF-16 text and binary files do; expected UTF-8 text: "
            "save it as UTF-8"
        )
    return content


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
