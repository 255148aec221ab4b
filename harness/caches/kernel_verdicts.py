"""Read the stored results of kernels' checks, without loading torch."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bsrbench.harness.caches.cache_contents import CacheContents
from bsrbench.harness.files import MIB, read_bytes, read_json

MOST_LIBRARY = 256 * MIB  # bytes of a library; ours have a few hundred kilobytes
UNKNOWN = "unknown"
DAMAGED = "the file is damaged; the kernels are checked again at their next use"
NO_LIBRARY = "its library is missing or changed; the kernels are built again at their next use"


@dataclass(frozen=True)
class KernelVerdict:
    """The result of checking the kernels of one module for one processor and version of torch.

    Attributes:
        path: the file of the result.
        module: the module of the kernels.
        device: type of the device.
        processor: model of the CPU or GPU.
        capability: vector instructions of the CPU, or compute capability of the GPU.
        torch: version of torch.
        faults: kernel -> why it is rejected; empty if it passed its check.
        doubt: why the result is not used; empty if it is.
    """

    path: Path
    module: str
    device: str = UNKNOWN
    processor: str = UNKNOWN
    capability: str = UNKNOWN
    torch: str = UNKNOWN
    faults: tuple[tuple[str, str], ...] = ()
    doubt: str = ""

    def lines(self) -> list[str]:
        """Return the result in words: what was checked, and one line per kernel."""
        made_for = f"{self.device}, {self.processor}, {self.capability}, torch {self.torch}"
        if UNKNOWN in {self.device, self.torch}:
            made_for = "stored without processor and version of torch"
        first = f"{self.module} ({made_for})"
        if self.doubt:
            return [f"{first}: {self.doubt}"]
        return [f"{first}:", *(f"  {name}: {_in_words(fault)}" for name, fault in self.faults)]


def _in_words(fault: str) -> str:
    return f"rejected, runs eagerly: {fault}" if fault else "passed its check"


def kernel_verdicts(contents: CacheContents) -> list[KernelVerdict]:
    """Return the results of checks in the cache of kernels; damaged ones have a doubt."""
    paths = [entry.path for entry in contents.entries if not entry.unfinished]
    libraries = set(_hashes(path for path in paths if path.suffix == ".so"))
    return [_verdict(path, libraries) for path in paths if path.suffix == ".json"]


def _hashes(libraries: Iterator[Path]) -> Iterator[str]:
    for path in libraries:
        try:
            yield hashlib.sha256(read_bytes(path, MOST_LIBRARY)).hexdigest()
        except OSError:  # removed in the meantime, or unreadable: no result counts for it
            continue


def _verdict(path: Path, libraries: set[str]) -> KernelVerdict:
    module = path.stem.rpartition("-")[0]
    try:
        stored = read_json(path)
        faults = tuple((str(name), str(fault)) for name, fault in stored["faults"].items())
        library = stored["library"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return KernelVerdict(path, module, doubt=DAMAGED)
    facts = {name: _text(stored, name) for name in ("device", "processor", "capability", "torch")}
    # Only C++ kernels have a library.
    doubt = NO_LIBRARY if library != "" and library not in libraries else ""
    return KernelVerdict(path, module, faults=faults, doubt=doubt, **facts)


def _text(stored: dict[str, Any], name: str) -> str:
    """Return a fact; older files do not have all of them."""
    return str(stored.get(name) or UNKNOWN)
