"""Bytes of live tensors, from watching storages being made and freed."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Adds up the storages that exist, each once however many views it has.

    Frozen parameters, in-place operators, saved-tensor hooks and custom autograd functions need
    no special case: whatever makes a tensor goes through an operator, and whatever frees it lets
    its storage die.

    Attributes:
        now: bytes alive.
        peak: the most there were since ``watch`` was first called.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = 0
        self.peak = 0
        self._seen: dict[int, weakref.finalize[Any, Any]] = {}

    def watch(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors made before the mode was entered."""
        for tensor in tensors:
            self._track(tensor)

    def _track(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 - the storage's identity; torch offers no other
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen[key] = weakref.finalize(storage, self._free, key, size)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _free(self, key: int, size: int) -> None:
        del self._seen[key]
        self.now -= size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self._track(leaf)
        return made

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]  # torch's
        for watcher in self._seen.values():
            watcher.detach()
        self._seen.clear()


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes behind tensors, each storage once."""
    sizes = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()  # noqa: SLF001
        for tensor in tensors
    }
    return sum(sizes.values())
