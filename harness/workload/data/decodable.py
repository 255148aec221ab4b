"""Decode each image file of a data set once before training, and store what was found."""

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
MOST_KEPT = 256 * MIB  # of what is kept: a few million images
# Of what is kept in the cache; a change of how pixels are read asks for another.
RULES = 3


@dataclass(frozen=True)
class Decodable:
    """What was found out about the image files of a data set.

    Attributes:
        good: those that decode.
        broken: names of the others, below the data set's folder.
        sha256: of the names and sizes of the good ones.
        treated: names of those that were turned into plain pixels, by what was done.
        alike: files of the same pixels, in groups of two and more.
    """

    good: frozenset[Path]
    broken: tuple[str, ...]
    sha256: str
    treated: dict[Treatment, tuple[str, ...]] = field(default_factory=dict)
    alike: tuple[tuple[Path, ...], ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return what a record says of them."""
        left_out = {"left_out": list(self.broken)} if self.broken else {}
        return {"sha256": self.sha256, "images": len(self.good)} | left_out

    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the numbers must know."""
        count = len(self.good) + len(self.broken)
        said = {"do not decode and were left out": self.broken} | self.treated
        return tuple(
            f"{len(names)} of {count} images {what}: {some(names)}"
            for what, names in said.items()
            if names
        )


@dataclass(frozen=True)
class _Found:
    """What was found out about one file.

    Attributes:
        broken: it does not decode.
        unknown: why nobody can say which colours its pixels are; empty where they are known.
        treatments: what was done to it.
        pixels: a hash of its shape and pixels.
    """

    broken: bool = False
    unknown: str = ""
    treatments: tuple[str, ...] = ()
    pixels: str = ""


def decodable(folder: Path, files: Collection[Path]) -> Decodable:
    """Decode every file once; what was found is kept in the cache as long as no file changes.

    Raises:
        BadInput: a file is not there, or nobody can say which colours its pixels are.
    """
    ordered = sorted(files)
    names = {file: str(file.relative_to(folder)) for file in ordered}
    if missing := [name for file, name in names.items() if not file.exists()]:
        raise BadInput(
            f"{folder.name}/ lacks {len(missing)} of {len(ordered)} images: {some(missing)}"
        )
    found = dict(zip(ordered, _looked_at(names), strict=True))
    if unknown := {names[file]: one.unknown for file, one in found.items() if one.unknown}:
        first, why = next(iter(unknown.items()))
        others = f" (so have {len(unknown) - 1} others)" if len(unknown) > 1 else ""
        raise BadInput(f"{folder.name}/{first} has {why}{others}")
    good = {file: name for file, name in names.items() if not found[file].broken}
    treated = {
        what: tuple(name for file, name in good.items() if what in found[file].treatments)
        for what in Treatment
    }
    return Decodable(
        frozenset(good),
        tuple(name for file, name in names.items() if file not in good),
        _hash_of(f"{name} {file.stat().st_size}" for file, name in good.items()),
        treated,
        _alike({file: found[file].pixels for file in good}),
    )


def _looked_at(names: dict[Path, str]) -> list[_Found]:
    """Return what each file is, in order: what is kept, or what decoding them shows."""
    stamps = [
        f"{name} {status.st_size} {status.st_mtime_ns}"
        for status, name in ((file.stat(), name) for file, name in names.items())
    ]
    kept = cache_folder() / f"images-{_hash_of([f'{RULES} {PIL.__version__}', *stamps])[:16]}.json"
    found = _kept(kept)
    if len(found) == len(names):
        return found
    with ThreadPoolExecutor(DECODERS) as pool:  # large images one after the other, for memory
        found = list(pool.map(partial(_look_at, turn=Lock()), names))
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(kept, json.dumps([_what_is_not_usual(one) for one in found]))
    return found


def _kept(path: Path) -> list[_Found]:
    """Return what was found out before; nothing where that is not there or damaged."""
    try:
        return [_found_of(one) for one in read_json(path, MOST_KEPT)]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _found_of(kept: dict[str, Any]) -> _Found:
    """Return what is kept of one file.

    Raises:
        TypeError: it is of another form.
        ValueError: it names an unknown treatment.
    """
    found = _Found(**kept | {"treatments": tuple(map(Treatment, kept.get("treatments", ())))})
    kinds = type(found.broken), type(found.unknown), type(found.pixels)
    if kinds != (bool, str, str):
        raise TypeError(f"broken is a truth value, unknown and pixels are texts, got {kinds}")
    return found


def _look_at(file: Path, turn: Lock) -> _Found:
    try:
        pixels = read(file, turn)
    except UnknownPixels as error:
        return _Found(unknown=str(error).removeprefix(f"{file}: "))
    except BadInput:
        return _Found(broken=True)
    image = pixels.image
    hashed = hashlib.blake2b(f"{list(image.shape)}".encode(), digest_size=12)
    hashed.update(image.contiguous().numpy().tobytes())
    return _Found(treatments=tuple(sorted(pixels.treatments)), pixels=hashed.hexdigest())


def _what_is_not_usual(found: _Found) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if value}


def _alike(hashes: dict[Path, str]) -> tuple[tuple[Path, ...], ...]:
    groups: dict[str, list[Path]] = defaultdict(list)
    for file, pixels in hashes.items():
        groups[pixels].append(file)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _hash_of(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def some(names: Collection[str]) -> str:
    """Return the first few of some names, for a message."""
    return ", ".join(list(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
