"""Keep something else in the place of what operators save, whatever operator saves it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ref

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.eager_internals import count_of_writes, storage_identity


@dataclass(frozen=True)
class PackedTensor:
    """What stands for a saved tensor: something packed, and the shape it had here."""

    packed: Any
    shape: torch.Size


class Packing:
    """The pack hook of one module call; a tensor that several operators save is packed once.

    Two of them may see one tensor in two shapes, as a softmax and the product that follows do.

    Args:
        wants: tells the tensors to pack; others are saved as they are.
        pack: makes of one what is kept; it must hold on to nothing of the tensor, and weak
            references to it must be possible.
    """

    def __init__(self, wants: Callable[[Tensor], bool], pack: Callable[[Tensor], Any]) -> None:
        self._wants, self._pack = wants, pack
        # Weak on both sides: the hook may outlive what it packed.
        self._packed: dict[tuple[Any, ...], tuple[ref[Any], ref[Any]]] = {}

    def __call__(self, saved: Tensor) -> Tensor | PackedTensor:
        """Return what is kept of a tensor that an operator saves."""
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
    """Return the hook that gives back what ``Packing`` took, of any shape.

    Args:
        unpack: the counterpart of what packs.
    """

    def restore(kept: Tensor | PackedTensor) -> Tensor:
        return kept if isinstance(kept, Tensor) else unpack(kept.packed).view(kept.shape)

    return restore
