"""Find storages that live between steps, by a walk over objects and by a census of tensors."""

import functools
import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bsrbench.harness.torch_internals.eager_internals import (
    FakeTensor,
    makes_fake_tensors,
    stands_for_others,
    storage_identity,
    tree_leaves,
)

Storage = torch.UntypedStorage
Storages = dict[int, Storage]  # by their identity
WeakStorages = dict[int, weakref.ref[Storage]]

# Tensors that these packages hold for themselves belong neither to a method nor to a model.
LIBRARIES = sys.stdlib_module_names | {
    *("torch", "torchvision", "timm", "peft", "transformers", "accelerate", "numpy", "fvcore"),
    *("pydantic", "pydantic_core"),
    *("pytest", "_pytest", "IPython", "ipykernel"),
}
OPAQUE = (ModuleType, CodeType, FrameType)
# The last is the type of a cached function, which functools does not name.
HOLDERS = (FunctionType, type, type(functools.cache(len)))


def storages(tensors: Iterable[Tensor]) -> Storages:
    """Return the storages behind tensors of any shape, each once."""
    behind = (_storage(tensor) for tensor in tensors)
    return {storage_identity(storage): storage for storage in behind if storage is not None}


def total_bytes(by_identity: Storages) -> int:
    """Return the bytes of storages."""
    return sum(storage.nbytes() for storage in by_identity.values())


def walk(*roots: object, closed: tuple[type, ...] = ()) -> Iterator[object]:
    """Yield objects and everything that they reference, directly or indirectly.

    The walk follows attributes, containers, closures, hooks, default arguments and generators. For
    functions and classes that do not belong to a library, it also follows the globals that their
    code names, in their own module and in other modules that the code names. Apart from that, it
    does not enter Python modules.

    Args:
        roots: the objects to start from.
        closed: types whose objects are yielded, but not entered.
    """
    seen: dict[int, object] = {}  # keeps the objects alive, so that no id is used twice
    ahead = list(roots)
    while ahead:
        thing = ahead.pop()
        if id(thing) in seen or isinstance(thing, OPAQUE):
            continue
        seen[id(thing)] = thing
        yield thing
        if not isinstance(thing, closed):
            ahead.extend(filter(gc.is_tracked, _held_by(thing)))  # others reference nothing


def tensors_in(things: Iterable[object]) -> list[Tensor]:
    """Return the tensors, of any shape, among objects."""
    return [thing for thing in things if isinstance(thing, Tensor)]


@contextmanager
def census() -> Iterator["KeptStorages"]:
    """Treat every tensor that the process creates in this context as kept by a trial.

    Nothing else in the process may create tensors during that time.
    """
    # The tensors may include garbage. This does no harm, and a collection can take long.
    before = _weak(storages(_all_tensors()))
    gc.freeze()  # later collections skip all objects that exist now
    try:
        yield KeptStorages(before)
    finally:
        gc.unfreeze()


def named_globals(function: FunctionType) -> list[tuple[dict[str, Any], str]]:
    """Return the globals that the code of a function names, including nested functions.

    Returns:
        Pairs of a module's dictionary and a name in it. The modules are the function's own module
        and other modules that the code names, except libraries. Empty for a library's function.
    """
    if of_library(function):
        return []
    names = _names(function.__code__)
    own = function.__globals__
    named = [vars(m) for m in map(sys.modules.get, names) if isinstance(m, ModuleType)]
    named += [vars(own[n]) for n in names if isinstance(own.get(n), ModuleType)]
    others = [module for module in named if not of_library(module)]
    return [(module, name) for module in (own, *others) for name in sorted(names & module.keys())]


def _names(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return {*code.co_names, *(name for part in inner for name in _names(part))}


def of_library(holder: object) -> bool:
    """Return whether a function, a class or a module's dictionary belongs to a library."""
    name: object = ""
    if isinstance(holder, HOLDERS):
        name = getattr(holder, "__module__", "")
    elif isinstance(holder, dict) and "__spec__" in holder:
        name = holder.get("__name__")
    return str(name or "").partition(".")[0] in LIBRARIES


class KeptStorages:
    """Finds storages that are kept between steps and that a step is not known to need.

    It finds tensors that the roots reference; storages that an earlier step left behind, even if
    only autograd holds them; and, in a ``census``, new tensors, wherever they are held.
    """

    def __init__(self, before: WeakStorages | None = None) -> None:
        self._before = before
        self._ours: WeakStorages = {}
        self._left: list[weakref.ref[Storage]] = []

    def fresh(self) -> "KeptStorages":
        """Return a new ``KeptStorages`` for another trial in the same census."""
        return KeptStorages(self._before)

    def disregard(self, tensors: Iterable[Tensor]) -> None:
        """Ignore tensors, of any shape, that the harness itself keeps."""
        self._ours |= _weak(storages(tensors))

    def left_behind(self, remaining: Iterable[Storage]) -> bool:
        """Store weak references to what a step left behind; return whether there is any."""
        self._left = [weakref.ref(storage) for storage in remaining]
        return bool(self._left)

    def find(self, roots: Iterable[object], known: Iterable[Tensor]) -> Storages:
        """Return the storages that are kept now.

        Args:
            roots: the objects to start from: a method, a model.
            known: tensors of any shape that have another category: weights, the batch.
        """
        found = storages(tensors_in(walk(*roots)))
        if self._left:
            gc.collect()  # garbage is not kept by anything
        left = (reference() for reference in self._left)
        found |= {storage_identity(storage): storage for storage in left if storage is not None}
        others = storages(known)
        if self._before is not None:
            found |= _newcomers(self._before, found | others, self._ours)
        # Compilers leave tensors without data behind, which need no memory. In a step over fake
        # tensors, however, all tensors are without data.
        fake = makes_fake_tensors()
        return {
            key: storage
            for key, storage in found.items()
            if (fake or storage.device.type != "meta")
            and key not in others
            and not _is(self._ours.get(key), storage)
        }


def owners(model: nn.Module) -> dict[int, str]:
    """Return storage identity -> name of the module with this tensor in a plain attribute."""
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        own = [leaf for leaf in tree_leaves(vars(module)) if isinstance(leaf, Tensor)]
        names |= dict.fromkeys(storages(own), name)
    return names


def _newcomers(before: WeakStorages, found: Storages, ours: WeakStorages) -> Storages:
    """Return storages that are in none of the three and that no library holds."""
    strange = [reference() for reference in _strange(before, found, ours)]
    tensors = [tensor for tensor in strange if tensor is not None]
    of_libraries = _held_by_libraries(tensors)
    return storages(tensor for tensor in tensors if id(tensor) not in of_libraries)


def _strange(
    before: WeakStorages, found: Storages, ours: WeakStorages
) -> list[weakref.ref[Tensor]]:
    """Return weak references to tensors whose storages are in none of the three."""
    strange: dict[int, weakref.ref[Tensor]] = {}
    gc.collect()  # garbage is not kept by anything
    for tensor in _all_tensors():
        for key, storage in storages([tensor]).items():
            known = key in found or _is(before.get(key), storage) or _is(ours.get(key), storage)
            if not known:
                strange[key] = weakref.ref(tensor)
    return list(strange.values())


def _all_tensors() -> list[Tensor]:
    """Return every tensor that Python's garbage collector knows.

    The type is checked, because ``isinstance`` asks the object, which may give a wrong answer.
    """
    return [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]


def _held_by_libraries(tensors: list[Tensor]) -> set[int]:
    """Return the ids of what functions, classes and modules of libraries, or their caches, hold.

    Each search for referrers looks at all objects, so there is one for all tensors, and not one
    for each.
    """
    near = gc.get_referrers(*tensors)
    caches = [holder for holder in near if isinstance(holder, tuple | list | dict)]
    far = gc.get_referrers(*caches)
    held = {id(thing) for thing in gc.get_referents(*filter(of_library, far))}
    holders = [holder for holder in near if of_library(holder)]
    holders += [cache for cache in caches if id(cache) in held]
    ids = {id(thing) for thing in gc.get_referents(*holders)}
    for referrers in (near, caches, far, holders):  # such lists may refer to each other
        referrers.clear()
    return ids


def _held_by(thing: object) -> list[Any]:
    """Return what an object references directly."""
    if isinstance(thing, FakeTensor):
        return []  # it references the mode that made it
    if isinstance(thing, type):
        return [] if of_library(thing) else [*vars(thing).values(), *thing.__bases__]
    if isinstance(thing, FunctionType):
        named = [module[name] for module, name in named_globals(thing)]
        own = thing.__closure__, thing.__defaults__, thing.__kwdefaults__, vars(thing)
        return [*own, *named]
    held = gc.get_referents(thing)
    return [*held, thing.grad] if isinstance(thing, Tensor) and thing.is_leaf else held


def _storage(tensor: Tensor) -> Storage | None:
    """Return the storage of a tensor; ``None`` if it wraps other tensors or has no storage."""
    if stands_for_others(tensor):
        return None
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse, opaque
        return None


def _weak(by_identity: Storages) -> WeakStorages:
    return {key: weakref.ref(storage) for key, storage in by_identity.items()}


def _is(reference: weakref.ref[Storage] | None, storage: Storage) -> bool:
    return reference is not None and reference() is storage
