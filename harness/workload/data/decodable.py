"""Which image files decode: found out once, so that no training ends at a broken one."""

import hashlib
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import BadInput
from harness.files import cache_folder, write_whole
from harness.workload.data.splits import decode

NAMED = 5  # files named in a message
DECODERS = 4


@dataclass(frozen=True)
class Decodable:
    """What was found out about the image files of a data set.

    Attributes:
        good: those that decode.
        broken: names of the others, below the data set's folder.
        sha256: of the names and sizes of the good ones.
    """

    good: frozenset[Path]
    broken: tuple[str, ...]
    sha256: str

    def facts(self) -> dict[str, Any]:
        """Return what a record says of them."""
        left_out = {"left_out": list(self.broken)} if self.broken else {}
        return {"sha256": self.sha256, "images": len(self.good)} | left_out

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the numbers must know."""
        if not self.broken:
            return ()
        count = len(self.good) + len(self.broken)
        said = f"{len(self.broken)} of {count} images do not decode and were left out"
        return (f"{said}: {_some(self.broken)}",)


def decodable(folder: Path, files: Collection[Path]) -> Decodable:
    """Decode every file once; what was found is kept in the cache as long as no file changes.

    Raises:
        BadInput: a file is not there.
    """
    ordered = sorted(files)
    names = {file: str(file.relative_to(folder)) for file in ordered}
    if missing := [name for file, name in names.items() if not file.is_file()]:
        raise BadInput(
            f"{folder.name}/ lacks {len(missing)} of {len(ordered)} images: {_some(missing)}"
        )
    kept = cache_folder() / f"decoded-{_listing(names)[:16]}.json"
    if kept.exists():
        broken = json.loads(kept.read_text(encoding="utf-8"))
    else:
        with ThreadPoolExecutor(DECODERS) as pool:
            decoded = list(pool.map(_decodes, ordered))
        broken = [names[file] for file, good in zip(ordered, decoded, strict=True) if not good]
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_whole(kept, json.dumps(broken))
    good = {file: name for file, name in names.items() if name not in set(broken)}
    return Decodable(frozenset(good), tuple(broken), _listing(good))


def _decodes(file: Path) -> bool:
    try:
        decode(file)
    except BadInput:
        return False
    return True


def _listing(names: dict[Path, str]) -> str:
    """Return a hash of the files' names and sizes."""
    lines = [f"{name} {file.stat().st_size}" for file, name in names.items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _some(names: Collection[str]) -> str:
    return ", ".join(list(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
