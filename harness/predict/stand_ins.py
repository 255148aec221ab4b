"""Replace the tensors of a model and its method by fake tensors while a context is open."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType
from typing import Any, cast

import torch
from torch import Tensor, nn

from bsrbench.harness.torch_internals.eager_internals import FakeTensor
from bsrbench.harness.training.kept_storages import named_globals, of_library, storages, walk

Undo = Callable[[], object]


class StandIns:
    """Makes one fake tensor per original tensor.

    The fake tensors share a storage if their originals share one.
    """

    def __init__(self) -> None:
        # The original and its fake tensor, by the identity of the original.
        self._made: dict[int, tuple[Tensor, Tensor]] = {}
        self._whole: dict[tuple[int, torch.dtype], Tensor] = {}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the fake tensor of a tensor of any shape: the same object at every call."""
        if isinstance(tensor, FakeTensor) or not storages([tensor]):
            return tensor
        if id(tensor) not in self._made:
            empty = self._empty(tensor).detach()
            trains = tensor.requires_grad
            kept = nn.Parameter(empty, trains) if isinstance(tensor, nn.Parameter) else empty
            self._made[id(tensor)] = tensor, kept.requires_grad_(tensor.requires_grad)
        return self._made[id(tensor)][1]

    def originals(self) -> list[Tensor]:
        """Return the original tensors, of any shape."""
        return [original for original, _ in self._made.values()]

    def _empty(self, tensor: Tensor) -> Tensor:
        (place,) = storages([tensor])
        known = self._whole.get((place, tensor.dtype))
        if known is None:
            size = tensor.untyped_storage().nbytes() // tensor.element_size()
            known = torch.empty(size, dtype=tensor.dtype)
            self._whole[place, tensor.dtype] = known
        return known.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())


@contextmanager
def stand_ins(*roots: object) -> Iterator[list[Tensor]]:
    """Replace the tensors that objects refer to by fake tensors, and put them back at the end.

    This must run inside a fake tensor mode. It replaces parameters, buffers and attributes, and
    tensors in dictionaries, lists, closures, classes and globals. It does not replace a tensor in
    a tuple.

    Args:
        roots: where to start: a model and its method.

    Yields:
        The original tensors, of any shape.
    """
    made = StandIns()
    undo = [put_back for thing in list(walk(*roots)) for put_back in _replaced(thing, made)]
    originals = made.originals()
    del made  # a fake tensor must be freed when its original would be
    try:
        yield originals
    finally:
        for put_back in reversed(undo):
            put_back()


def _replaced(thing: object, made: StandIns) -> list[Undo]:
    """Replace the tensors that an object itself holds; return functions that put them back."""
    if isinstance(thing, Tensor):
        return []
    if isinstance(thing, type):
        own = [] if of_library(thing) else list(vars(thing).items())
        return _exchanged(own, partial(setattr, thing), made)
    if isinstance(thing, CellType):
        held = _contents(thing)
        return _exchanged([("cell_contents", c) for c in held], partial(setattr, thing), made)
    if isinstance(thing, list | deque):
        return _exchanged(list(enumerate(thing)), thing.__setitem__, made)
    if isinstance(thing, FunctionType):
        named = named_globals(thing)
        each = (_exchanged([(n, m[n])], m.__setitem__, made) for m, n in named)
        return [put_back for undo in each for put_back in undo]
    values = thing if isinstance(thing, dict) else _attributes(thing)
    items = list(values.items()) if isinstance(values, dict) else []
    return _exchanged(items, cast("Any", values).__setitem__, made) if items else []


def _exchanged(
    items: list[tuple[Any, Any]], put: Callable[[Any, Any], object], made: StandIns
) -> list[Undo]:
    undo: list[Undo] = []
    for key, value in items:
        if isinstance(value, Tensor) and made.of(value) is not value:
            put(key, made.of(value))
            undo.append(partial(put, key, value))
    return undo


def _attributes(thing: object) -> object:
    """Return the dictionary of an object's attributes, if any, without asking the object."""
    try:
        return object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return None


def _contents(cell: CellType) -> list[object]:
    try:
        return [cell.cell_contents]
    except ValueError:  # the cell is still empty
        return []
