"""Tensors without numbers in the place of all that a model and its method hold, for a while."""

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
    """Makes a tensor without numbers for each tensor it is asked about, the same every time.

    What shares a storage goes on sharing one.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Tensor, Tensor]] = {}  # with the originals, by their identity
        self._whole: dict[tuple[int, torch.dtype], Tensor] = {}

    def of(self, tensor: Tensor) -> Tensor:
        """Return the one that stands for a tensor of any shape, and has the same."""
        if isinstance(tensor, FakeTensor) or not storages([tensor]):
            return tensor
        if id(tensor) not in self._made:
            empty = self._empty(tensor).detach()
            kept = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
            self._made[id(tensor)] = tensor, kept.requires_grad_(tensor.requires_grad)
        return self._made[id(tensor)][1]

    def originals(self) -> list[Tensor]:
        """Return the tensors, of any shape, that some stand for."""
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
    """Replace tensors wherever objects lead to them, and put them back in the end.

    Must run inside a fake tensor mode. Replaced are parameters, buffers and attributes, and what
    lies in dictionaries, lists, closures, classes and globals; a tensor in a tuple stays.

    Args:
        roots: a model, its method.

    Yields:
        The originals, which may have any shape.
    """
    made = StandIns()
    undo = [put_back for thing in list(walk(*roots)) for put_back in _replaced(thing, made)]
    originals = made.originals()
    del made  # a stand-in lives as long as what it stands for would
    try:
        yield originals
    finally:
        for put_back in reversed(undo):
            put_back()


def _replaced(thing: object, made: StandIns) -> list[Undo]:
    """Replace the tensors that an object itself holds; return what puts them back."""
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
    found = thing if isinstance(thing, dict) else getattr(thing, "__dict__", None)
    items = list(found.items()) if isinstance(found, dict) else []
    return _exchanged(items, cast("Any", found).__setitem__, made) if items else []


def _exchanged(
    items: list[tuple[Any, Any]], put: Callable[[Any, Any], object], made: StandIns
) -> list[Undo]:
    undo: list[Undo] = []
    for key, value in items:
        if isinstance(value, Tensor) and made.of(value) is not value:
            put(key, made.of(value))
            undo.append(partial(put, key, value))
    return undo


def _contents(cell: CellType) -> list[object]:
    try:
        return [cell.cell_contents]
    except ValueError:  # nothing is in it yet
        return []
