"""Mark in a profile that a storage from before the profile is freed."""

import weakref
from collections.abc import Iterable

import torch

from bsrbench.harness.torch_internals.eager_internals import profile_mark

FREED = "bsrbench freed "


class Frees:
    """Adds a mark to a profile when a storage is freed that was allocated before the profile.

    The allocator has no event for freeing a block that was allocated outside a profile.

    Args:
        storages: storages that may be freed; it keeps only weak references.
    """

    def __init__(self, storages: Iterable[torch.UntypedStorage] = ()) -> None:
        self._finalizers = [
            weakref.finalize(storage, _announce, storage.nbytes(), storage.data_ptr())
            for storage in storages
        ]

    def __enter__(self) -> None:
        """Do nothing; marks made before the profile begins have no effect."""

    def __exit__(self, *_: object) -> None:
        """Stop marking freed storages."""
        for finalizer in self._finalizers:
            finalizer.detach()


def _announce(size: int, address: int) -> None:
    with profile_mark(f"{FREED}{size} {address}"):
        pass
