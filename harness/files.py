"""The only code that writes files: whole or not at all, never through a link; and reads strangers'.

A results folder, a suite or an image may come from anybody. What is written goes to a new file
beside the target, which then takes its name: a symbolic link there is replaced, never followed.
What is read is a regular file of a bounded size.
"""

import codecs
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from bsrbench.harness.errors import BadInput

# UTF-32's first: little-endian, it begins as UTF-16's does.
FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


MIB = 2**20
MOST_TEXT = 16 * MIB  # bytes of a file that a person writes, or of a record
CHUNK = 1 << 16  # bytes read at once, of a file that does not say how many it has
PART = ".part"  # ends the name of a file that is being written
NAME_KEPT = 40  # characters of the target's name in it
MODE = 0o644
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path | str, most: int = MOST_TEXT) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: the file; a link to one is followed.
        most: bytes; a larger file is not read.

    Raises:
        OSError: it cannot be read, is no regular file (a pipe would be waited for) or is too large.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name has a zero byte")
    # Without O_NONBLOCK the opening of a pipe waits for somebody who writes into it.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            found = next((name for test, name in KINDS if test(about.st_mode)), "something else")
            raise OSError(errno.EINVAL, f"it is {found}, expected a regular file")
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, more than {most:,}")
        parts, left = [], most + 1
        while left and (more := os.read(descriptor, min(left, max(about.st_size + 1, CHUNK)))):
            parts.append(more)
            left -= len(more)
            if len(more) == about.st_size:  # a call less for each of a hundred thousand files
                break
    finally:
        os.close(descriptor)
    if not left:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes")
    return b"".join(parts)


def read_json(path: Path | str, most: int = MOST_TEXT) -> Any:
    """Return the JSON of a regular file, nested at most 1,024 deep.

    Raises:
        OSError: as ``read_bytes``.
        ValueError: it is no JSON.
    """
    return orjson.loads(read_bytes(path, most))


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Return the text of a file that a person has written: UTF-8, a byte order mark left out.

    Every line ends in a line feed, whatever it ended in.

    Args:
        path: the file.
        most: bytes that it may have.

    Raises:
        BadInput: the file cannot be read, is too large, or is not UTF-8.
    """
    content = _bytes_of_text(path, most)
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


def _bytes_of_text(path: Path, most: int = MOST_TEXT) -> bytes:
    try:
        content = read_bytes(path, most)
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


def write_whole(path: Path, content: str | bytes, *, synced: bool = True) -> None:
    """Write a file so that a reader sees all of it or the file as it was before.

    Args:
        path: the file; a link there is replaced.
        content: of it; text is written as UTF-8, half a surrogate pair as its code.
        synced: wait until it is on the disk; else a power cut may leave it empty.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    encoded = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    replace_whole(path, lambda partial: partial.write_bytes(encoded), synced=synced)


def replace_whole(path: Path, write: Callable[[Path], object], *, synced: bool = True) -> None:
    """Let ``write`` fill a new file beside ``path``, then put it in its place.

    Args:
        path: the file; a link there is replaced.
        write: is given the new file, which is there and empty, and has no name that could be
            foreseen.
        synced: wait until it is on the disk.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    handle, name = tempfile.mkstemp(PART, f".{path.name[:NAME_KEPT]}.", path.parent)
    partial = Path(name)
    try:
        try:
            write(partial)
            os.fchmod(handle, MODE)
            if synced:
                os.fsync(handle)
        finally:
            os.close(handle)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if synced:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Put a new name on the disk; what file systems cannot do is left undone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


def refuse_link(folder: Path) -> None:
    """Check that a folder of our own is none of somebody else's.

    Raises:
        OSError: it is a link: what is written into it would go elsewhere.
    """
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder.name} is a symbolic link, expected a folder")


def make_folder(folder: Path) -> None:
    """Make a folder of our own, unless it is there.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    refuse_link(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except RecursionError as error:
        raise OSError(errno.ENAMETOOLONG, "it is a thousand folders deep", str(folder)) from error


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
