"""What surrounds a block's run, and the same run again in the backward pass."""

from contextlib import AbstractContextManager

from torch import nn

from bsrbench.methods.parts.block_side_data import SideDataAgain, TakesSideData
from bsrbench.methods.parts.random_draws import DrawsAgain, RandomDraws


class _Together:
    """Contexts entered in order, as often as is asked for: a graph may be gone through twice."""

    def __init__(self, *contexts: AbstractContextManager[None]) -> None:
        self._contexts = contexts

    def __enter__(self) -> None:
        for context in self._contexts:
            context.__enter__()

    def __exit__(self, *_: object) -> None:
        for context in reversed(self._contexts):
            context.__exit__(None, None, None)


def contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds a block's run and the same run again, for torch's ``checkpoint``.

    Run again, the block finds what was on its way to it then, and draws the same random numbers;
    afterwards both are as if it had not been run again.
    """
    draws = RandomDraws(block)
    again: list[AbstractContextManager[None]] = [DrawsAgain(draws)]
    if isinstance(block, TakesSideData):
        again.append(SideDataAgain(block.carried))
    return draws, _Together(*again)
