"""Contexts for the first run of a block and for its recomputation in the backward pass."""

from contextlib import AbstractContextManager

from torch import nn

from bsrbench.methods.parts.block_side_data import SideDataAgain, TakesSideData
from bsrbench.methods.parts.random_draws import DrawsAgain, RandomDraws


class _Together:
    """Several contexts as one, which can be used again: a graph can have two backward passes."""

    def __init__(self, *contexts: AbstractContextManager[None]) -> None:
        self._contexts = contexts

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *_: object) -> None:
        for context in reversed(self._contexts):
            context.__exit__(None, None, None)


def contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of a block's first run and of its recomputation, for ``checkpoint``.

    In the recomputation the block reads the same side data and draws the same random numbers as in
    the first run. Afterwards side data and random generators have the states from before the
    recomputation.
    """
    draws = RandomDraws(block)
    again: list[AbstractContextManager[None]] = [DrawsAgain(draws)]
    if isinstance(block, TakesSideData):
        again.append(SideDataAgain(block.carried))
    return draws, _Together(*again)
