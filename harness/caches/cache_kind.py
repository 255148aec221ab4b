"""The kinds of caches: what each holds, where, and how its files are named."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bsrbench.harness import files
from bsrbench.harness.torch_internals import compiler_internals

HASH = "[0-9a-f]{16}"


@dataclass(frozen=True)
class CacheKind:
    """A kind of cache.

    Attributes:
        name: by which commands name it.
        holds: what it holds, in a few words.
        folder: returns its folder, which may not exist yet.
        file_names: pattern of the names of our files in the folder; empty if another program owns
            the folder. Other names are neither counted nor removed.
    """

    name: str
    holds: str
    folder: Callable[[], Path]
    file_names: str

    def owns(self, name: str) -> bool:
        """Return whether a complete file with this name is ours."""
        return re.fullmatch(self.file_names, name) is not None

    def owns_unfinished(self, name: str) -> bool:
        """Return whether a file or folder with this name is one that we began to write."""
        pattern = rf"\.{self.file_names}\..*{re.escape(files.PART)}"
        return re.fullmatch(pattern, name, re.DOTALL) is not None


KERNELS = CacheKind(
    "kernels",
    "compiled kernels and their checks",
    compiler_internals.kernel_folder,
    rf"\w+-{HASH}\.(?:so|json)",
)
WEIGHTS = CacheKind(
    "weights",
    "converted weights",
    files.cache_folder,
    rf"[\w.-]+-{HASH}\.safetensors",
)
IMAGES = CacheKind(
    "images",
    "results of decoding images",
    files.cache_folder,
    rf"images-{HASH}\.json",
)
DOCTOR = CacheKind(
    "doctor",
    "results of bsrbench doctor",
    files.cache_folder,
    rf"doctor-{HASH}\.json",
)
TORCH = CacheKind(
    "torch",
    "code compiled by torch",
    compiler_internals.compiler_cache,
    "",
)
OURS = (KERNELS, WEIGHTS, IMAGES, DOCTOR)
KINDS = (*OURS, TORCH)
