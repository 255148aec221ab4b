"""The file that a pass prints into."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bsrbench.harness.files import make_folder, write_whole
from bsrbench.harness.plain_data import plain_text

KEPT_BYTES = 1 << 20  # of a log, when its pass has ended
MOST_BYTES = 1 << 30  # of a log, while its pass runs
END_BYTES = 1 << 16  # of a log, that are looked at for its last lines


@contextmanager
def log_file(wanted: Path | None, folder: Path) -> Iterator[Path]:
    """Give a file to print into; one that was asked for stays if anything was printed.

    Of a long log the end stays. A log that cannot be kept, on a full disk say, is no reason to
    lose what the pass measures.

    Args:
        wanted: the file; a link there is replaced.
        folder: for a file that nobody asked for.
    """
    if wanted is None:
        with tempfile.NamedTemporaryFile(suffix=".log", dir=folder) as file:
            yield Path(file.name)
        return
    try:
        make_folder(wanted.parent)
        wanted.unlink(missing_ok=True)  # were it a link, something outside would be written
        os.close(os.open(wanted, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except OSError:
        yield Path(os.devnull)
        return
    try:
        yield wanted
    finally:
        with suppress(OSError):  # the folder is gone, or others' logs are in it
            _shorten(wanted)
            if wanted.stat().st_size == 0:
                wanted.unlink()
                wanted.parent.rmdir()


def last_lines(log: Path, count: int) -> list[str]:
    """Return the last lines of a log, however long it is; none where it cannot be read."""
    try:
        text = _end(log, END_BYTES).decode("utf-8", "replace")
    except OSError:  # nothing was printed, or no log could be kept
        return []
    return [plain_text(line) for line in text.strip().splitlines()[-count:]]


def is_too_long(log: Path) -> bool:
    """Return whether a log has more than may ever be printed."""
    try:
        return log.stat().st_size > MOST_BYTES
    except OSError:
        return False


def _shorten(log: Path) -> None:
    size = log.lstat().st_size
    if size > KEPT_BYTES:
        said = f"... ({size - KEPT_BYTES} bytes before this were not kept)\n"
        write_whole(log, said.encode() + _end(log, KEPT_BYTES), synced=False)


def _end(path: Path, size: int) -> bytes:
    """Return the last bytes of a regular file.

    Raises:
        OSError: it cannot be read, or is a link or no regular file.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags), "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)
