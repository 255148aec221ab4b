"""Bytes of live tensors, by observing when storages are created and freed."""

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.composite_operators import is_composite
from bsrbench.harness.torch_internals.eager_internals import (
    TorchDispatchMode,
    storage_identity,
    tree_leaves,
)

CUDA_BLOCK_BYTES = 512  # kMinBlockSize of torch's CUDACachingAllocator
Storage = torch.UntypedStorage
# Numbers become a tensor out of sight of all modes, and are first seen as what these are given.
WRAPS = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)


class Category(StrEnum):
    """The category of a storage, given by the observer or derived from its lifetime."""

    WEIGHTS = "weights"
    BUFFERS = "buffers"
    OPTIMIZER = "optimizer"
    INPUTS = "inputs"
    KEPT = "kept"  # lives between steps and is none of these: somebody holds on to it
    GRADIENTS = "gradients"
    SAVED_ACTIVATIONS = "saved_activations"  # made in a forward pass, alive when backward begins
    TEMPORARIES = "temporaries"  # everything else, recomputed activations among it


@dataclass
class Life:
    """The lifetime of a storage; moments are counted in creations and frees."""

    size: int
    born: int
    owner: str
    category: Category | None
    in_forward: bool
    ended: int | None = None
    held: bool = False
    if_read: Category | None = None  # what it is for instead, should an operator read it

    def kind(self) -> Category:
        """Return what it was for, as far as its life shows by now."""
        if self.category is not None:
            return self.category
        return Category.SAVED_ACTIVATIONS if self.held else Category.TEMPORARIES


@dataclass
class Timeline:
    """Bytes alive after each operator, in order, with what ran: four lists of one length."""

    live_bytes: list[int] = field(default_factory=list)
    operator: list[str] = field(default_factory=list)
    phase: list[str] = field(default_factory=list)
    module: list[str] = field(default_factory=list)


class LiveBytes(TorchDispatchMode):
    """Adds up the bytes of the storages that exist; each counts once, regardless of views.

    Frozen parameters, in-place operators, saved-tensor hooks and custom autograd functions need
    no special case: every tensor is created by an operator, and freeing it frees its storage.

    Args:
        owner: says which module an operator belongs to.
        grain: sizes are rounded up to multiples of so many bytes, as an allocator would.
        device: type of the only device whose storages count; ``None`` counts all.
        reads: the category of storages that an operator reads though none has made them, as far as
            was seen, and nobody said that they are there; they count from then on. ``None`` counts
            them when an operator returns them.

    Attributes:
        now: bytes alive.
        peak: the largest number of bytes since ``watch`` was first called.
        peak_operator: the operator at which the peak occurred, as an index of ``timeline``.
        timeline: bytes after each operator.
    """

    def __init__(
        self,
        owner: Callable[[], str] = str,
        *,
        grain: int = 1,
        device: str | None = None,
        reads: Category | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = self.peak = 0
        self.timeline = Timeline()
        self.peak_operator = 0
        self._owner, self._grain, self._device, self._reads = owner, grain, device, reads
        self._phase = "forward"
        self._entered = self._moment = self._peak_moment = 0
        self._lives: list[Life] = []
        self._alive: dict[int, tuple[weakref.finalize[Any, Any], Life]] = {}
        self._ignored: dict[int, Storage] = {}
        self._begun: list[list[Life]] = []  # what was there as each backward pass began

    def watch(self, held: Iterable[Tensor | Storage], category: Category, owner: str = "") -> None:
        """Count what was made before the mode was entered, or say what seen ones are for.

        Tensors may have any shape.
        """
        for one in held:
            if self._counts(one):
                self._track(_storage_of(one), owner).category = category

    def watch_rest(self, storage: Storage, owner: str, if_read: Category | None) -> None:
        """Count a storage as kept, if nobody has said yet that it is there.

        Args:
            storage: what is there.
            owner: the module that has it.
            if_read: what it is for instead, should an operator read it; where ``reads`` is set.
        """
        if self._counts(storage) and storage_identity(storage) not in self._alive:
            life = self._track(storage, owner)
            life.category, life.if_read = Category.KEPT, if_read

    def ignore(self, held: Iterable[Storage]) -> None:
        """Leave storages out, whatever is done with them."""
        self._ignored |= {storage_identity(storage): storage for storage in held}

    def enter_phase(self, phase: str) -> None:
        """Note that ``forward``, ``backward`` or ``optimizer`` begins."""
        if phase == "backward":
            begun = [life for _, life in self._alive.values() if life.in_forward]
            for life in begun:
                life.held = True
            self._begun.append(begun)
        self._phase = phase

    def keep_rest(self, *others: Tensor) -> list[Storage]:
        """Take what is alive at a step's end, and has no category, for kept; return it.

        Args:
            others: tensors of any shape that are not kept, as the step's result.
        """
        apart = {storage_identity(_storage_of(tensor)) for tensor in others}
        rest: list[Storage] = []
        for key, (finalizer, life) in self._alive.items():
            found = finalizer.peek()
            if found is not None and life.category is None and key not in apart:
                life.category = Category.KEPT
                rest.append(found[0])
        return rest

    def held_by_owner(self) -> dict[str, int]:
        """Return the saved activations alive as a backward pass began, by who made them.

        Of several passes it is the one with the most.
        """
        most: Counter[str] = Counter()
        for begun in self._begun:
            held: Counter[str] = Counter()
            for life in begun:
                if life.category is None:
                    held[life.owner] += life.size
            most = max(most, held, key=lambda sizes: sum(sizes.values()))
        return dict(most)

    def peak_place(self) -> dict[str, str]:
        """Return phase, module and operator that made the peak."""
        if self.peak_operator >= len(self.timeline.operator):
            return {"phase": self._phase, "module": "", "operator": "before any operator"}
        line, at = self.timeline, self.peak_operator
        return {
            "phase": line.phase[at],
            "module": line.module[at],
            "operator": line.operator[at],
        }

    def at_peak(self) -> dict[str, dict[Category, int]]:
        """Return the bytes alive at the peak by module that made (or owns) them and category."""
        split: dict[str, dict[Category, int]] = defaultdict(lambda: defaultdict(int))
        for life in self._lives:
            ended = life.ended is not None and life.ended <= self._peak_moment
            if life.born <= self._peak_moment and not ended:
                split[life.owner][life.kind()] += life.size
        return {owner: dict(kinds) for owner, kinds in split.items()}

    def size_of(self, held: Tensor | Storage) -> int:
        """Return the bytes that a storage counts for, or that of a tensor of any shape."""
        return -(-_storage_of(held).nbytes() // self._grain) * self._grain

    def _counts(self, held: Tensor | Storage) -> bool:
        if self._ignored and storage_identity(_storage_of(held)) in self._ignored:
            return False
        # The storage of a tensor without numbers does not tell which device it stands for.
        return self._device is None or held.device.type in {self._device, "meta"}

    def _track(self, storage: Storage, owner: str) -> Life:
        key, size = storage_identity(storage), self.size_of(storage)
        category = None
        if key in self._alive:
            finalizer, life = self._alive[key]
            if life.size == size:
                return life
            finalizer.detach()  # it was resized: the old one ends where the new one begins
            category = life.category
            self._end(key)
        self._moment += 1
        life = Life(size, self._moment, owner, category, in_forward=self._phase == "forward")
        self._lives.append(life)
        self._alive[key] = weakref.finalize(storage, self._end, key), life
        self.now += size
        if self.now > self.peak:
            self.peak, self._peak_moment = self.now, self._moment
            self.peak_operator = len(self.timeline.live_bytes)
        return life

    def _read(self, tensor: Tensor) -> None:
        """Note that a storage is read, which may be how it is first seen."""
        storage = tensor.untyped_storage()
        if storage_identity(storage) in self._alive:
            _, life = self._alive[storage_identity(storage)]
            life.category = life.if_read or life.category
        elif self._counts(tensor):
            self._track(storage, "").category = self._reads

    def _end(self, key: int) -> None:
        _, life = self._alive.pop(key)
        self._moment += 1
        life.ended = self._moment
        self.now -= life.size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        if self._reads is not None and func.namespace != "prim" and func not in WRAPS:
            for leaf in tree_leaves((args, kwargs)):
                if isinstance(leaf, Tensor):
                    self._read(leaf)
        made = func(*args, **(kwargs or {}))
        if func.namespace == "prim":  # asks something of a tensor; nothing is computed
            return made
        owner = self._owner()
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and self._counts(leaf):
                self._track(leaf.untyped_storage(), owner)
        line = self.timeline
        line.live_bytes.append(self.now)
        line.operator.append(str(func))
        line.phase.append(self._phase)
        line.module.append(owner)
        return made

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's
        self._entered += 1
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]  # torch's
        self._entered -= 1
        if self._entered:
            return  # an operator was taken apart
        for finalizer, _ in self._alive.values():
            finalizer.detach()
        self._alive.clear()


def _storage_of(held: Tensor | Storage) -> Storage:
    return held.untyped_storage() if isinstance(held, Tensor) else held
