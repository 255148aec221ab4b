"""Make the recomputation of a block draw the same random numbers as its first run."""

import ctypes
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bsrbench.harness.torch_internals.eager_internals import (
    FakeTensor,
    TorchDispatchMode,
    arguments_of,
    makes_fake_tensors,
)


@dataclass(frozen=True)
class RandomSource:
    """One of torch's generators of random numbers.

    Attributes:
        read: returns the state of the generator, a uint8 tensor in host memory.
        write: sets the state of the generator.
    """

    read: Callable[[], Tensor]
    write: Callable[[Tensor], object]

    def state(self) -> bytes:
        """Return the state. The copy uses no operator of torch, because meters count operators."""
        state = self.read()
        return ctypes.string_at(state.data_ptr(), state.nbytes)

    def restore(self, state: bytes | Tensor) -> None:
        """Set the generator to a state, bytes or uint8 [n]; a fake tensor changes nothing."""
        if isinstance(state, bytes):
            state = torch.frombuffer(bytearray(state), dtype=torch.uint8)
        if not isinstance(state, FakeTensor):
            self.write(state)


class RandomDraws:
    """A context around a run of a block, which notices the random generators that the run uses.

    It compares the states of the generators before and after the run, so it notices draws by
    modules and by functions. It watches only generators of torch: those of the CPU and of the
    block's devices, and those that are attributes of the block's modules.

    Attributes:
        kept: each generator that drew, with its state before the run.
    """

    def __init__(self, block: nn.Module) -> None:
        self.kept: list[tuple[RandomSource, Tensor]] = []
        self._sources = _sources(block)
        self._before: list[bytes] = []
        self._watching = ExitStack()
        self._notices: _NoticesDraws | None = None

    def __enter__(self) -> None:
        """Read the states of all generators."""
        self._before = [source.state() for source in self._sources]
        if makes_fake_tensors():  # operators on fake tensors draw no numbers
            self._notices = self._watching.enter_context(_NoticesDraws())

    def __exit__(self, *_: object) -> None:
        """Keep the earlier states of the generators that drew."""
        self._watching.close()
        if self._notices is not None and self._notices.drew:
            # A state that differs from the real one, so that the first generator counts as used.
            self._before[0] = bytes(len(self._before[0]))
        self.kept = [
            (source, _kept(state))
            for source, state in zip(self._sources, self._before, strict=True)
            if source.state() != state
        ]
        self._before.clear()


class DrawsAgain:
    """A context in which generators repeat the random numbers of an earlier run."""

    def __init__(self, draws: RandomDraws) -> None:
        self._draws = draws
        self._now: list[tuple[RandomSource, bytes]] = []

    def __enter__(self) -> None:
        """Set the generators to their states before the earlier run."""
        self._now = [(source, source.state()) for source, _ in self._draws.kept]
        for source, state in self._draws.kept:
            source.restore(state)

    def __exit__(self, *_: object) -> None:
        """Restore the states that the generators had before this context."""
        for source, state in self._now:
            source.restore(state)
        self._now.clear()


class _NoticesDraws(TorchDispatchMode):
    """A mode that notices operators that draw random numbers, by torch's tag of such operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.drew = False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        keywords = kwargs or {}
        may = torch.Tag.nondeterministic_seeded in func.tags
        self.drew = self.drew or (may and _dropped_share(func, args, keywords) != 0)
        return func(*args, **keywords)


def _dropped_share(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the dropout rate of fused attention; ``None`` for operators without this argument."""
    for place, argument in enumerate(arguments_of(operator)):
        if argument.name == "dropout_p":
            rate = args[place] if place < len(args) else argument.default_value
            return kwargs.get("dropout_p", rate)
    return None


def _kept(state: bytes) -> Tensor:
    """Return a state as a tensor. An operator makes the tensor, so that meters count it."""
    kept = torch.empty(len(state), dtype=torch.uint8, device="cpu")
    if not isinstance(kept, FakeTensor):
        ctypes.memmove(kept.data_ptr(), state, len(state))
    return kept


def _sources(block: nn.Module) -> list[RandomSource]:
    """Return the generators that a block can draw from; the first is the CPU's."""
    devices = {parameter.device for parameter in block.parameters()}
    apart = sorted((d for d in devices if d.type not in {"cpu", "meta"}), key=str)
    own = [value for part in block.modules() for value in vars(part).values()]
    return [
        RandomSource(torch.get_rng_state, torch.set_rng_state),
        *map(_of_device, apart),
        *(
            RandomSource(value.get_state, value.set_state)
            for value in own
            if isinstance(value, torch.Generator)
        ),
    ]


def _of_device(device: torch.device) -> RandomSource:
    module = torch.get_device_module(device)

    def read() -> Tensor:
        with module.device(device.index):
            state: Tensor = module.get_rng_state()
        return state

    def write(state: Tensor) -> None:
        with module.device(device.index):
            module.set_rng_state(state)

    return RandomSource(read, write)
