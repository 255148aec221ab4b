"""Count the bytes of live tensors by observing when storages are created and freed."""

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
    DEVICE_OF,
    FakeTensor,
    TorchDispatchMode,
    device_of_fake,
    storage_identity,
)
from bsrbench.harness.torch_internals.sparse_parts import tensors_with_storage

CUDA_BLOCK_BYTES = 512  # kMinBlockSize of torch's CUDACachingAllocator
Storage = torch.UntypedStorage
# A tensor made from Python numbers is created outside any dispatch mode. A mode first sees it as
# the argument of one of these operators.
WRAPS = (torch.ops.aten.lift_fresh.default, torch.ops.aten.lift_fresh_copy.default)


class Category(StrEnum):
    """The category of a storage, given by the observer or derived from its lifetime."""

    WEIGHTS = "weights"
    BUFFERS = "buffers"
    OPTIMIZER = "optimizer"
    INPUTS = "inputs"
    KEPT = "kept"  # none of the above, but held from step to step by the method or the model
    GRADIENTS = "gradients"
    SAVED_ACTIVATIONS = "saved_activations"  # of a forward pass, alive when backward begins
    TEMPORARIES = "temporaries"  # everything else, including recomputed activations


@dataclass
class Life:
    """The lifetime of a storage; its unit of time is one creation or one free of a storage."""

    size: int
    born: int
    owner: str
    category: Category | None
    in_forward: bool
    ended: int | None = None
    held: bool = False
    if_read: Category | None = None  # its category from the moment that an operator reads it

    def kind(self) -> Category:
        """Return the category that was set, or the one that follows from the lifetime so far."""
        if self.category is not None:
            return self.category
        return Category.SAVED_ACTIVATIONS if self.held else Category.TEMPORARIES


@dataclass
class Timeline:
    """Five lists with one entry per operator: bytes alive after it, name, phase, module, moment."""

    live_bytes: list[int] = field(default_factory=list)
    operator: list[str] = field(default_factory=list)
    phase: list[str] = field(default_factory=list)
    module: list[str] = field(default_factory=list)
    moment: list[int] = field(default_factory=list)


class LiveBytes(TorchDispatchMode):
    """Adds up the bytes of the storages that exist; each storage counts once, with all its views.

    Frozen parameters, in-place operators, saved-tensor hooks and custom autograd functions need
    no special case: every tensor is created by an operator, and freeing it frees its storage.

    Args:
        owner: returns the name of the module to which the running operator belongs.
        grain: each size is rounded up to a multiple of this number of bytes, as an allocator does.
        device: type of the device whose storages count; ``None`` counts all devices.
        reads: the category of a storage that an operator reads and that is not known yet: no
            observed operator created it, and no call of ``watch`` named it. It counts from this
            moment. With ``None``, such a storage counts when an operator returns it.

    Attributes:
        now: bytes of the storages that exist now.
        peak: the largest value of ``now`` so far.
        peak_operator: index in ``timeline`` of the operator at which the peak occurred.
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
        self._begun: list[list[Life]] = []  # storages of forward, alive as each backward began

    def watch(self, held: Iterable[Tensor | Storage], category: Category, owner: str = "") -> None:
        """Set the category of tensors or storages; count those that are not known yet.

        Tensors may have any shape. The mode does not see tensors that were created before it was
        entered, so they must be named here.
        """
        for tensor in held:
            if self._counts(tensor):
                self._track(_storage_of(tensor), owner).category = category

    def watch_rest(self, storage: Storage, owner: str, if_read: Category | None) -> None:
        """Count a storage as kept, unless it is known already.

        Args:
            storage: the storage.
            owner: the module that holds it.
            if_read: its category from the moment that an operator reads it; used only if ``reads``
                is set.
        """
        if self._counts(storage) and storage_identity(storage) not in self._alive:
            life = self._track(storage, owner)
            life.category, life.if_read = Category.KEPT, if_read

    def ignore(self, held: Iterable[Storage]) -> None:
        """Never count these storages."""
        self._ignored |= {storage_identity(storage): storage for storage in held}

    def enter_phase(self, phase: str) -> None:
        """Begin the phase ``forward``, ``backward`` or ``optimizer``."""
        if phase == "backward":
            alive = [life for _, life in self._alive.values() if life.in_forward]
            for life in alive:
                life.held = True
            self._begun.append(alive)
        self._phase = phase

    def keep_rest(self, *others: Tensor) -> list[Storage]:
        """Set the category ``kept`` for live storages without a category, and return them.

        Call it at the end of a step.

        Args:
            others: tensors of any shape that are not kept, such as the step's result.
        """
        excluded = {storage_identity(_storage_of(tensor)) for tensor in others}
        kept: list[Storage] = []
        for key, (finalizer, life) in self._alive.items():
            finalized = finalizer.peek()
            if finalized is not None and life.category is None and key not in excluded:
                life.category = Category.KEPT
                kept.append(finalized[0])
        return kept

    def held_by_owner(self) -> dict[str, int]:
        """Return module -> bytes of the saved activations alive when a backward pass began.

        If there were several backward passes, it is the one with the most bytes.
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
        """Return the phase, module and operator at which the peak occurred."""
        if self.peak_operator >= len(self.timeline.operator):
            return {"phase": self._phase, "module": "", "operator": "before any operator"}
        line, at = self.timeline, self.peak_operator
        return {
            "phase": line.phase[at],
            "module": line.module[at],
            "operator": line.operator[at],
        }

    def at_peak(self) -> dict[str, dict[Category, int]]:
        """Return module -> category -> bytes alive at the peak; the module created or owns them."""
        split: dict[str, dict[Category, int]] = defaultdict(lambda: defaultdict(int))
        for life in self._lives:
            ended = life.ended is not None and life.ended <= self._peak_moment
            if life.born <= self._peak_moment and not ended:
                split[life.owner][life.kind()] += life.size
        return {owner: dict(kinds) for owner, kinds in split.items()}

    def lives(self) -> tuple[Life, ...]:
        """Return the lifetimes of all storages so far, in the order of their creation."""
        return tuple(self._lives)

    def size_of(self, held: Tensor | Storage) -> int:
        """Return the counted bytes of a storage, or of the storage of a tensor of any shape."""
        return -(-_storage_of(held).nbytes() // self._grain) * self._grain

    def _counts(self, held: Tensor | Storage) -> bool:
        if self._ignored and storage_identity(_storage_of(held)) in self._ignored:
            return False
        # A tensor without values is on device "meta", whichever device it represents.
        return self._device is None or held.device.type in {self._device, "meta"}

    def _track(self, storage: Storage, owner: str) -> Life:
        key, size = storage_identity(storage), self.size_of(storage)
        category = None
        if key in self._alive:
            finalizer, life = self._alive[key]
            if life.size == size:
                return life
            finalizer.detach()  # it was resized: count it as freed and created again
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

    def _read_all(self, nest: object) -> None:
        for tensor in tensors_with_storage(nest):
            self._read(tensor)

    def _read(self, tensor: Tensor) -> None:
        """Update the category of a storage that is read, or count it if it is not known yet."""
        storage = tensor.untyped_storage()
        if storage_identity(storage) in self._alive:
            _, life = self._alive[storage_identity(storage)]
            life.category = life.if_read or life.category
        elif self._counts(tensor):
            self._track(storage, "").category = self._reads

    def _end(self, key: int) -> None:
        _, life = self._alive.pop(key)
        self._moment = life.ended = self._moment + 1
        self.now -= life.size

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is DEVICE_OF and isinstance(args[0], FakeTensor):
            return device_of_fake(args[0])  # of four calls, three are of this kind
        if is_composite(func):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        if self._reads is not None and func.namespace != "prim" and func not in WRAPS:
            self._read_all((args, kwargs))
        made = func(*args, **(kwargs or {}))
        if func.namespace == "prim":  # returns a property of a tensor and computes nothing
            return made
        owner = self._owner()
        for tensor in tensors_with_storage(made):
            if self._counts(tensor):
                self._track(tensor.untyped_storage(), owner)
        line = self.timeline
        line.live_bytes.append(self.now)
        line.operator.append(str(func))
        line.phase.append(self._phase)
        line.module.append(owner)
        line.moment.append(self._moment)
        return made

    def __enter__(self) -> Self:
        super().__enter__()  # type: ignore[no-untyped-call]  # torch's
        self._entered += 1
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]  # torch's
        self._entered -= 1
        if self._entered:
            return  # leaves the nested entry that decomposes an operator
        for finalizer, _ in self._alive.values():
            finalizer.detach()
        self._alive.clear()


def _storage_of(held: Tensor | Storage) -> Storage:
    return held.untyped_storage() if isinstance(held, Tensor) else held
