"""The file that a pass prints into."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.files import make_folder, write_whole


@contextmanager
def log_file(wanted: Path | None) -> Iterator[Path]:
    """Give a file to print into; one that was asked for stays if anything was printed.

    A log that cannot be kept, on a full disk say, is no reason to lose what the pass measures.
    """
    if wanted is None:
        with tempfile.NamedTemporaryFile(suffix=".log") as file:
            yield Path(file.name)
        return
    try:
        make_folder(wanted.parent)
        write_whole(wanted, b"", synced=False)  # a link is replaced: what it leads to is not ours
    except OSError:
        yield Path(os.devnull)
        return
    try:
        yield wanted
    finally:
        with suppress(OSError):  # the folder is gone, or others' logs are in it
            if wanted.stat().st_size == 0:
                wanted.unlink()
                wanted.parent.rmdir()
