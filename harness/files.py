"""Write files atomically and never through a link; read untrusted files within a size limit.

This is the only code that writes files. A results folder, a suite or an image may come from
anybody. A file is written under a temporary name beside the target and then renamed, so a symbolic
link at the target is replaced and never followed. Only regular files are read.
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

# UTF-32 comes first: its little-endian mark begins with the mark of UTF-16.
FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


MIB = 2**20
MOST_TEXT = 16 * MIB  # bytes of a record, or of a file that a person writes
CHUNK = 1 << 16  # bytes read at once from a file that does not state its size
PART = ".part"  # suffix of a file that is being written
NAME_KEPT = 40  # characters of the target's name that the temporary name repeats
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
        OSError: it cannot be read, is too large, or is not a regular file (reading a pipe would
            block).
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name contains a zero byte")
    # Without O_NONBLOCK, opening a pipe blocks until another process opens it for writing.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            kind = next((name for test, name in KINDS if test(about.st_mode)), "something else")
            raise OSError(errno.EINVAL, f"it is {kind}, expected a regular file")
        if about.st_size > most:
            raise OSError(errno.EFBIG, f"it has {about.st_size:,} bytes, more than {most:,}")
        parts, left = [], most + 1
        while left and (more := os.read(descriptor, min(left, max(about.st_size + 1, CHUNK)))):
            parts.append(more)
            left -= len(more)
            if len(more) == about.st_size:  # saves one system call per file
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
        ValueError: it is not JSON.
    """
    return orjson.loads(read_bytes(path, most))


def read_text(path: Path, most: int = MOST_TEXT) -> str:
    """Return the text of a UTF-8 file that a person has written, without its byte order mark.

    All line endings become line feeds.

    Args:
        path: the file.
        most: the size limit in bytes.

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
    """Check that a file is UTF-8 or another encoding that contains ASCII, as Python requires.

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
            f"{path} contains zero bytes, as UTF-16 text and binary files do; expected UTF-8 text: "
            "save it as UTF-8"
        )
    return content


def write_whole(path: Path, content: str | bytes, *, synced: bool = True) -> None:
    """Write a file atomically: a reader sees either the whole new file or the old one.

    Args:
        path: the file; a link there is replaced.
        content: what to write; text is written as UTF-8, with unpaired surrogates escaped.
        synced: wait until it is on the disk; otherwise a power cut may leave the file empty.

    Raises:
        OSError: the file cannot be written; the old file is unchanged.
    """
    encoded = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    replace_whole(path, lambda partial: partial.write_bytes(encoded), synced=synced)


def replace_whole(path: Path, write: Callable[[Path], object], *, synced: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``.

    Args:
        path: the file; a link there is replaced.
        write: gets the path of the empty temporary file, whose name is random.
        synced: wait until it is on the disk.

    Raises:
        OSError: the file cannot be written; the old file is unchanged.
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
    """Sync a folder, so that a new name is on the disk; some file systems do not support it."""
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
    """Check that a folder of ours is not a symbolic link.

    Raises:
        OSError: it is a link, so files would be written to another folder.
    """
    if folder.is_symlink():
        raise OSError(errno.ELOOP, f"{folder.name} is a symbolic link, expected a folder")


def make_folder(folder: Path) -> None:
    """Make a folder of ours, unless it exists.

    Raises:
        OSError: the folder cannot be made, or is a link.
    """
    refuse_link(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except RecursionError as error:
        raise OSError(errno.ENAMETOOLONG, "it is nested too deep", str(folder)) from error


def cache_folder() -> Path:
    """Return the cache folder: ``BSRBENCH_CACHE``, or else one in the user's cache folder.

    Raises:
        BadInput: the user has no home folder, and the environment names no cache folder.
    """
    if own := os.environ.get("BSRBENCH_CACHE"):
        return Path(own)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "bsrbench"
    try:
        return Path.home() / ".cache" / "bsrbench"
    except RuntimeError as error:
        raise BadInput("there is no home folder for the cache: set BSRBENCH_CACHE") from error


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
