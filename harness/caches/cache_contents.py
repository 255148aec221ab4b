"""List what a cache holds."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsrbench.harness.caches.cache_kind import KERNELS, CacheKind
from bsrbench.harness.errors import BadInput
from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE


@dataclass(frozen=True)
class CacheEntry:
    """A file of a cache, or a folder in which one is being written.

    Attributes:
        path: where it is.
        size_bytes: its size; that of a folder is the sum of its files.
        written_at: when it was last written, in seconds since 1970.
        unfinished: whether it is not complete.
    """

    path: Path
    size_bytes: int
    written_at: float
    unfinished: bool = False


@dataclass(frozen=True)
class CacheContents:
    """What a cache holds.

    Attributes:
        kind: the kind of cache.
        folder: its folder.
        entries: its files, by name.
        exists: whether the folder exists.
        fault: why the folder cannot be read; empty if it can.
        read_only: whether nothing can be stored or removed there.
    """

    kind: CacheKind
    folder: Path
    entries: tuple[CacheEntry, ...] = ()
    exists: bool = True
    fault: str = ""
    read_only: bool = False

    @property
    def size_bytes(self) -> int:
        """Return the size of all entries."""
        return sum(entry.size_bytes for entry in self.entries)


def contents_of(kind: CacheKind) -> CacheContents:
    """Return what a cache holds; links in its folder are neither followed nor counted.

    Raises:
        BadInput: there is no home folder for the cache, or no folder for temporary files.
    """
    try:
        folder = kind.folder()
    except OSError as error:
        raise BadInput(
            f"there is no folder for temporary files ({error.strerror or error}): set TMPDIR or "
            f"{COMPILER_CACHE}"
        ) from error
    try:
        os.scandir(folder).close()  # os.walk ignores errors
        listed = _our_files(kind, folder) if kind.file_names else _files_below(folder)
        entries = tuple(sorted(listed, key=lambda entry: entry.path))
    except FileNotFoundError:
        return CacheContents(kind, folder, exists=False)
    except OSError as error:
        return CacheContents(kind, folder, fault=f"cannot read {folder}: {error.strerror or error}")
    return CacheContents(kind, folder, entries, read_only=not os.access(folder, os.W_OK))


def _our_files(kind: CacheKind, folder: Path) -> Iterator[CacheEntry]:
    """Yield the files in a folder whose names are those of our files.

    Raises:
        OSError: the folder cannot be read.
    """
    with os.scandir(folder) as listing:
        for item in listing:
            unfinished = kind.owns_unfinished(item.name)
            if item.is_file(follow_symlinks=False) and (unfinished or kind.owns(item.name)):
                yield from _entry(Path(item.path), unfinished=unfinished)
            elif item.is_dir(follow_symlinks=False) and unfinished:
                parts = list(_files_below(Path(item.path)))
                for own in _entry(Path(item.path), unfinished=True):
                    dates = [own.written_at, *(part.written_at for part in parts)]
                    size_bytes = sum(part.size_bytes for part in parts)
                    yield CacheEntry(own.path, size_bytes, max(dates), unfinished=True)


def _files_below(folder: Path) -> Iterator[CacheEntry]:
    """Yield every file below a folder except our kernels, which have a kind of their own.

    Folders that cannot be read are left out.
    """
    kernels = KERNELS.folder()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) != kernels]
        for name in names:
            yield from _entry(Path(place, name))


def _entry(path: Path, *, unfinished: bool = False) -> Iterator[CacheEntry]:
    """Yield the entry of a path, or nothing if it is a link or has disappeared."""
    try:
        about = path.lstat()
    except OSError:
        return
    if not stat.S_ISLNK(about.st_mode):
        yield CacheEntry(path, about.st_size, about.st_mtime, unfinished)
