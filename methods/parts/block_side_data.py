"""Hand something from block to block beside the tokens, so that a block can be run again."""

from torch import Tensor, nn


class BlockSideData:
    """What is on its way from one block to the next within a forward pass.

    Attributes:
        now: what the last block has left; ``None`` between forward passes.
    """

    def __init__(self) -> None:
        self.now: Tensor | None = None


class TakesSideData(nn.Module):
    """A block that reads and leaves something beside the tokens."""

    carried: BlockSideData


class SideDataAgain:
    """While it is entered, what is on its way is what it was when this was made."""

    def __init__(self, carried: BlockSideData) -> None:
        self._carried, self._then, self._now = carried, carried.now, carried.now

    def __enter__(self) -> None:
        """Go back."""
        self._now, self._carried.now = self._carried.now, self._then

    def __exit__(self, *_: object) -> None:
        """Leave it as it was found."""
        self._carried.now = self._now
