"""Bytes of live tensors, from watching storages being made and freed."""

import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA_BLOCK_BYTES = 512  # kMinBlockSize of torch's CUDACachingAllocator


class Category(StrEnum):
    """What a storage is for. Each has one, given by whoever watches it or found from its life."""

    WEIGHTS = "weights"
    BUFFERS = "buffers"
    OPTIMIZER = "optimizer"
    INPUTS = "inputs"
    GRADIENTS = "gradients"
    SAVED_ACTIVATIONS = "saved_activations"  # made in a forward pass, alive when backward begins
    TEMPORARIES = "temporaries"  # everything else, recomputed activations among it


@dataclass
class Life:
    """A storage from its making to its end, in moments of one count of makings and endings."""

    size: int
    born: int
    owner: str
    category: Category | None
    in_forward: bool
    ended: int | None = None
    held: bool = False

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
    """Adds up the storages that exist, each once however many views it has.

    Frozen parameters, in-place operators, saved-tensor hooks and custom autograd functions need
    no special case: whatever makes a tensor goes through an operator, and whatever frees it lets
    its storage die.

    Args:
        owner: says which module an operator belongs to.
        grain: sizes are rounded up to multiples of so many bytes, as an allocator would.
        device: type of the only device whose storages count; ``None`` counts all.

    Attributes:
        now: bytes alive.
        peak: the most there were since ``watch`` was first called.
        peak_operator: the operator that made the peak, as an index of ``timeline``.
        held_after_forward: saved activations alive when a backward pass began, the most of any.
        held_by_owner: the same by the module that made them.
        timeline: bytes after each operator.
    """

    def __init__(
        self, owner: Callable[[], str] = str, *, grain: int = 1, device: str | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.now = self.peak = self.held_after_forward = 0
        self.held_by_owner: dict[str, int] = {}
        self.timeline = Timeline()
        self.peak_operator = 0
        self._owner, self._grain, self._device = owner, grain, device
        self._phase = "forward"
        self._moment = self._peak_moment = 0
        self._lives: list[Life] = []
        self._alive: dict[int, tuple[weakref.finalize[Any, Any], Life]] = {}

    def watch(self, tensors: Iterable[Tensor], category: Category, owner: str = "") -> None:
        """Count tensors made before the mode was entered, or say what seen ones are for."""
        for tensor in tensors:
            if self._counts(tensor):
                self._track(tensor, owner).category = category

    def enter_phase(self, phase: str) -> None:
        """Note that ``forward``, ``backward`` or ``optimizer`` begins."""
        if phase == "backward":
            held = [life for _, life in self._alive.values() if life.in_forward]
            for life in held:
                life.held = True
            by_owner: Counter[str] = Counter()
            for life in held:
                if life.category is None:
                    by_owner[life.owner] += life.size
            if by_owner.total() > self.held_after_forward:
                self.held_after_forward = by_owner.total()
                self.held_by_owner = dict(by_owner)
        self._phase = phase

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

    def size_of(self, tensor: Tensor) -> int:
        """Return the bytes a tensor's storage counts for."""
        return -(-tensor.untyped_storage().nbytes() // self._grain) * self._grain

    def _counts(self, tensor: Tensor) -> bool:
        return self._device in {None, tensor.device.type}

    def _track(self, tensor: Tensor, owner: str) -> Life:
        storage, size = tensor.untyped_storage(), self.size_of(tensor)
        key = storage._cdata  # noqa: SLF001 - the storage's identity; torch offers no other
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
        made = func(*args, **(kwargs or {}))
        if func.namespace == "prim":  # asks something of a tensor; nothing is computed
            return made
        owner = self._owner()
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor) and self._counts(leaf):
                self._track(leaf, owner)
        line = self.timeline
        line.live_bytes.append(self.now)
        line.operator.append(str(func))
        line.phase.append(self._phase)
        line.module.append(owner)
        return made

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]  # torch's
        for finalizer, _ in self._alive.values():
            finalizer.detach()
        self._alive.clear()


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes behind tensors, each storage once."""
    sizes = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()  # noqa: SLF001
        for tensor in tensors
    }
    return sum(sizes.values())
