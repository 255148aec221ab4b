"""Decode each image file of a data set once before training, and cache the result."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import PIL

from bsrbench.harness.errors import BadInput
from bsrbench.harness.files import MIB, cache_folder, read_json, write_whole
from bsrbench.harness.workload.data.pixels import Treatment, UnknownPixels, read

NAMED = 5  # files named in a message
DECODERS = 4
MOST_KEPT = 256 * MIB  # largest cache file; enough for a few million images
# Version of the cached results. Increase it if the way to read pixels changes.
RULES = 3


@dataclass(frozen=True)
class Decodable:
    """The result of decoding the image files of a data set.

    Attributes:
        good: the files that decode.
        broken: names of the files that do not decode, relative to the data set's folder.
        sha256: hash of the names and sizes of the files that decode.
        treated: names of the files whose pixels were converted, by treatment.
        alike: groups of two or more files with the same pixels.
    """

    good: frozenset[Path]
    broken: tuple[str, ...]
    sha256: str
    treated: dict[Treatment, tuple[str, ...]] = field(default_factory=dict)
    alike: tuple[tuple[Path, ...], ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return the facts about the images for a record."""
        left_out = {"left_out": list(self.broken)} if self.broken else {}
        return {"sha256": self.sha256, "images": len(self.good)} | left_out

    def notes(self) -> tuple[str, ...]:
        """Return notes for a reader of the results: images left out and images converted."""
        count = len(self.good) + len(self.broken)
        names_by_event = {"do not decode and were left out": self.broken} | self.treated
        return tuple(
            f"{len(names)} of {count} images {what}: {some(names)}"
            for what, names in names_by_event.items()
            if names
        )


@dataclass(frozen=True)
class _FileResult:
    """The result of decoding one file.

    Attributes:
        broken: whether the file does not decode.
        unknown: why the colours of its pixels are not defined; empty if they are.
        treatments: how its pixels were converted.
        pixels: hash of its shape and pixels.
    """

    broken: bool = False
    unknown: str = ""
    treatments: tuple[str, ...] = ()
    pixels: str = ""


def decodable(folder: Path, files: Collection[Path]) -> Decodable:
    """Decode every file once; the result is cached and used until a file changes.

    Raises:
        BadInput: a file is missing, or the colours of its pixels are not defined.
    """
    ordered = sorted(files)
    names = {file: str(file.relative_to(folder)) for file in ordered}
    if missing := [name for file, name in names.items() if not file.exists()]:
        raise BadInput(
            f"{folder.name}/ lacks {len(missing)} of {len(ordered)} images: {some(missing)}"
        )
    results = dict(zip(ordered, _looked_at(names), strict=True))
    if unknown := {names[file]: each.unknown for file, each in results.items() if each.unknown}:
        first, why = next(iter(unknown.items()))
        others = (
            f" (other images with this problem: {len(unknown) - 1})" if len(unknown) > 1 else ""
        )
        raise BadInput(f"{folder.name}/{first} has {why}{others}")
    good = {file: name for file, name in names.items() if not results[file].broken}
    treated = {
        what: tuple(name for file, name in good.items() if what in results[file].treatments)
        for what in Treatment
    }
    return Decodable(
        frozenset(good),
        tuple(name for file, name in names.items() if file not in good),
        _hash_of(f"{name} {file.stat().st_size}" for file, name in good.items()),
        treated,
        _alike({file: results[file].pixels for file in good}),
    )


def _looked_at(names: dict[Path, str]) -> list[_FileResult]:
    """Return the result for each file, in order: from the cache, or by decoding the files."""
    stamps = [
        f"{name} {status.st_size} {status.st_mtime_ns}"
        for status, name in ((file.stat(), name) for file, name in names.items())
    ]
    kept = cache_folder() / f"images-{_hash_of([f'{RULES} {PIL.__version__}', *stamps])[:16]}.json"
    results = _kept(kept)
    if len(results) == len(names):
        return results
    with ThreadPoolExecutor(DECODERS) as pool:  # the lock lets one large image decode at a time
        results = list(pool.map(partial(_look_at, turn=Lock()), names))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps([_without_defaults(result) for result in results]))
    return results


def _kept(path: Path) -> list[_FileResult]:
    """Return the cached results; an empty list if the cache file is missing or damaged."""
    try:
        return [_result_of(entry) for entry in read_json(path, MOST_KEPT)]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _result_of(kept: dict[str, Any]) -> _FileResult:
    """Return the cached result of one file.

    Raises:
        TypeError: the cache entry has another form.
        ValueError: the cache entry names an unknown treatment.
    """
    result = _FileResult(**kept | {"treatments": tuple(map(Treatment, kept.get("treatments", ())))})
    kinds = type(result.broken), type(result.unknown), type(result.pixels)
    if kinds != (bool, str, str):
        raise TypeError(f"broken must be a bool, unknown and pixels must be strings; got {kinds}")
    return result


def _look_at(file: Path, turn: Lock) -> _FileResult:
    try:
        pixels = read(file, turn)
    except UnknownPixels as error:
        return _FileResult(unknown=str(error).removeprefix(f"{file}: "))
    except BadInput:
        return _FileResult(broken=True)
    image = pixels.image
    hashed = hashlib.blake2b(f"{list(image.shape)}".encode(), digest_size=12)
    hashed.update(image.contiguous().numpy().tobytes())
    return _FileResult(treatments=tuple(sorted(pixels.treatments)), pixels=hashed.hexdigest())


def _without_defaults(result: _FileResult) -> dict[str, Any]:
    return {name: value for name, value in asdict(result).items() if value}


def _alike(hashes: dict[Path, str]) -> tuple[tuple[Path, ...], ...]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for file, pixels in hashes.items():
        groups[pixels].append(file)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _hash_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def some(names: Collection[str]) -> str:
    """Return the first names of a collection, for a message."""
    return ", ".join(list(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
