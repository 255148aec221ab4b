"""Store packed data in place of the tensors that operators save for the backward pass."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.eager_internals import count_of_writes, storage_identity


@dataclass(frozen=True)
class PackedTensor:
    """The packed data of a saved tensor, and the shape in which the operator saved it."""

    packed: Any
    shape: torch.Size


class Packing:
    """The pack hook of one module call; a tensor that several operators save is packed once.

    Two operators can save the same tensor in two shapes, for example a softmax and the matrix
    product after it.

    Args:
        wants: tells whether to pack a tensor; other tensors are saved unchanged.
        pack: maps a tensor to its packed data. These must not reference the tensor, and must allow
            weak references.
    """

    def __init__(self, wants: Callable[[Tensor], bool], pack: Callable[[Tensor], Any]) -> None:
        self._wants, self._pack = wants, pack
        # Both references are weak, because the hook can outlive the tensors and their packed data.
        self._packed: dict[tuple[Any, ...], tuple[ref[Any], ref[Any]]] = {}

    def __call__(self, saved: Tensor) -> Tensor | PackedTensor:
        """Return what to store of a tensor of any shape that an operator saves."""
        if not self._wants(saved):
            return saved
        storage = saved.untyped_storage()
        layout = saved.numel() if saved.is_contiguous() else (saved.shape, saved.stride())
        identity, writes = storage_identity(storage), count_of_writes(saved)
        place = identity, saved.storage_offset(), layout, saved.dtype, writes
        known = self._packed.get(place)
        packed = known[1]() if known and known[0]() is storage else None
        if packed is None:
            packed = self._pack(saved.detach())
            self._packed[place] = (ref(storage), ref(packed))
        return PackedTensor(packed, saved.shape)


def unpacking(unpack: Callable[[Any], Tensor]) -> Callable[[Tensor | PackedTensor], Tensor]:
    """Return the unpack hook of ``Packing``; it returns the saved tensor, of any shape.

    Args:
        unpack: maps packed data to the tensor; the inverse of ``pack``.
    """

    def restore(kept: Tensor | PackedTensor) -> Tensor:
        return kept if isinstance(kept, Tensor) else unpack(kept.packed).view(kept.shape)

    return restore
