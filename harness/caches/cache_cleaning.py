"""Empty a cache: remove the files that bsrbench wrote, and nothing else."""

import shutil
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from bsrbench.harness.caches.cache_contents import CacheContents, CacheEntry

# An unfinished file that is older was left by a process that was killed. A younger one may be a
# download in progress.
ABANDONED_SECONDS = 24 * 3600.0


@dataclass
class CacheCleaning:
    """What was removed from caches.

    Attributes:
        files: number of files removed.
        size_bytes: size of the files removed.
        in_progress: files that may be written at this moment, which were left.
        faults: for each file that could not be removed, a sentence with the reason.
    """

    files: int = 0
    size_bytes: int = 0
    in_progress: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def add(self, contents: CacheContents, *, dry: bool = False) -> None:
        """Remove the files of a cache; its folder stays, because a run may be using it.

        Args:
            contents: what the cache holds.
            dry: only count.
        """
        if contents.fault:
            self.faults.append(contents.fault)
        for entry in contents.entries:
            if entry.unfinished and time.time() - entry.written_at < ABANDONED_SECONDS:
                self.in_progress.append(entry.path)
            else:
                self._remove(entry, dry=dry)

    def _remove(self, entry: CacheEntry, *, dry: bool) -> None:
        try:
            if not dry:
                _unlink(entry.path)
        except FileNotFoundError:  # another process removed it
            return
        except OSError as error:
            self.faults.append(f"cannot remove {entry.path}: {error.strerror or error}")
            return
        self.files += 1
        self.size_bytes += entry.size_bytes


def _unlink(path: Path) -> None:
    """Remove a file, or a folder of unfinished files; links in it are removed, never followed."""
    if stat.S_ISDIR(path.lstat().st_mode):
        shutil.rmtree(path)
    else:
        path.unlink()
