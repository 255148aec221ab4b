"""The log file that gets the output of a pass."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bsrbench.harness.files import make_folder, write_whole
from bsrbench.harness.plain_data import plain_text

KEPT_BYTES = 1 << 20  # size limit of a log after its pass has ended
MOST_BYTES = 1 << 30  # size limit of a log while its pass runs
END_BYTES = 1 << 16  # part of a log that is read to find its last lines


@contextmanager
def log_file(log: Path | None, folder: Path) -> Iterator[Path]:
    """Provide a log file; a named log is kept if anything was printed.

    Only the end of a long log is kept. If a log cannot be written, for example because the disk is
    full, the pass runs without one.

    Args:
        log: the log file; a link there is replaced. ``None`` uses a temporary file.
        folder: the folder of the temporary file.
    """
    if log is None:
        with tempfile.NamedTemporaryFile(suffix=".log", dir=folder) as file:
            yield Path(file.name)
        return
    try:
        make_folder(log.parent)
        log.unlink(missing_ok=True)  # never write through a link
        os.close(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except OSError:
        yield Path(os.devnull)
        return
    try:
        yield log
    finally:
        with suppress(OSError):  # the folder is gone, or contains other logs
            _shorten(log)
            if log.stat().st_size == 0:
                log.unlink()
                log.parent.rmdir()


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log, however long it is; empty if it cannot be read."""
    try:
        text = _end(log, END_BYTES).decode("utf-8", "replace")
    except OSError:  # nothing was printed, or the log could not be written
        return []
    return [plain_text(line) for line in text.strip().splitlines()[-count:]]


def is_too_long(log: Path) -> bool:
    """Return whether a log exceeds ``MOST_BYTES``."""
    try:
        return log.stat().st_size > MOST_BYTES
    except OSError:
        return False


def _shorten(log: Path) -> None:
    size = log.lstat().st_size
    if size > KEPT_BYTES:
        mark = f"... ({size - KEPT_BYTES} bytes before this were not kept)\n"
        write_whole(log, mark.encode() + _end(log, KEPT_BYTES), synced=False)


def _end(path: Path, size: int) -> bytes:
    """Return the last bytes of a regular file.

    Raises:
        OSError: it cannot be read, is a link, or is not a regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags), "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)
