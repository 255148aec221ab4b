"""Let a block that is run again draw the random numbers that it drew before."""

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
        read: returns its state, a tensor of bytes in the host's memory.
        write: sets it.
    """

    read: Callable[[], Tensor]
    write: Callable[[Tensor], object]

    def state(self) -> bytes:
        """Return the state; copied past torch's operators, which meters watch."""
        state = self.read()
        return ctypes.string_at(state.data_ptr(), state.nbytes)

    def restore(self, state: bytes | Tensor) -> None:
        """Set the generator to a state, bytes or uint8 [n]; one without numbers changes nothing."""
        if isinstance(state, bytes):
            state = torch.frombuffer(bytearray(state), dtype=torch.uint8)
        if not isinstance(state, FakeTensor):
            self.write(state)


class RandomDraws:
    """Finds out, entered around a block's run, which generators it draws from.

    Whatever draws in it, module or function, is noticed: states are compared. Only torch's
    generators are known, those of the block's devices and those its modules have as attributes.

    Attributes:
        kept: of each generator that drew, its state before the run.
    """

    def __init__(self, block: nn.Module) -> None:
        self.kept: list[tuple[RandomSource, Tensor]] = []
        self._sources = _sources(block)
        self._before: list[bytes] = []
        self._watching = ExitStack()
        self._notices: _NoticesDraws | None = None

    def __enter__(self) -> None:
        """Note the states."""
        self._before = [source.state() for source in self._sources]
        if makes_fake_tensors():  # operators without numbers draw none
            self._notices = self._watching.enter_context(_NoticesDraws())

    def __exit__(self, *_: object) -> None:
        """Keep the states of those that drew."""
        self._watching.close()
        if self._notices is not None and self._notices.drew:
            self._before[0] = bytes(len(self._before[0]))  # as if the first had drawn
        self.kept = [
            (source, _kept(state))
            for source, state in zip(self._sources, self._before, strict=True)
            if source.state() != state
        ]
        self._before.clear()


class DrawsAgain:
    """While it is entered, generators give out what they gave in an earlier run."""

    def __init__(self, draws: RandomDraws) -> None:
        self._draws = draws
        self._now: list[tuple[RandomSource, bytes]] = []

    def __enter__(self) -> None:
        """Go back to the states before that run."""
        self._now = [(source, source.state()) for source, _ in self._draws.kept]
        for source, state in self._draws.kept:
            source.restore(state)

    def __exit__(self, *_: object) -> None:
        """Leave the generators as they were found."""
        for source, state in self._now:
            source.restore(state)
        self._now.clear()


class _NoticesDraws(TorchDispatchMode):
    """Notices operators that would draw, by the tag that torch gives them."""

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
        given = kwargs or {}
        may = torch.Tag.nondeterministic_seeded in func.tags
        self.drew = self.drew or (may and _dropped_share(func, args, given) != 0)
        return func(*args, **given)


def _dropped_share(operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the share that fused attention drops; ``None`` for operators that have no such."""
    for place, argument in enumerate(arguments_of(operator)):
        if argument.name == "dropout_p":
            given = args[place] if place < len(args) else argument.default_value
            return kwargs.get("dropout_p", given)
    return None


def _kept(state: bytes) -> Tensor:
    """Return a tensor of a state, made by an operator so that meters see that it is kept."""
    kept = torch.empty(len(state), dtype=torch.uint8, device="cpu")
    if not isinstance(kept, FakeTensor):
        ctypes.memmove(kept.data_ptr(), state, len(state))
    return kept


def _sources(block: nn.Module) -> list[RandomSource]:
    """Return the generators that a block may draw from, the CPU's first."""
    devices = {parameter.device for parameter in block.parameters()}
    apart = sorted((d for d in devices if d.type not in {"cpu", "meta"}), key=str)
    own = [value for part in block.modules() for value in vars(part).values()]
    return [
        RandomSource(torch.get_rng_state, torch.set_rng_state),
        *map(_of_device, apart),
        *(
            RandomSource(one.get_state, one.set_state)
            for one in own
            if isinstance(one, torch.Generator)
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
