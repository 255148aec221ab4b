"""Pass a second tensor from block to block beside the tokens, so that a block can be rerun."""

from torch import Tensor, nn


class BlockSideData:
    """The tensor that one block passes to the next beside the tokens, within a forward pass.

    Attributes:
        now: the tensor that the previous block wrote; ``None`` between forward passes.
    """

    def __init__(self) -> None:
        self.now: Tensor | None = None


class TakesSideData(nn.Module):
    """A block that reads and writes side data."""

    carried: BlockSideData


class SideDataAgain:
    """A context that restores the side data of the moment when this object was created."""

    def __init__(self, carried: BlockSideData) -> None:
        self._carried, self._then, self._now = carried, carried.now, carried.now

    def __enter__(self) -> None:
        """Replace the current side data by the earlier side data."""
        self._now, self._carried.now = self._carried.now, self._then

    def __exit__(self, *_: object) -> None:
        """Restore the side data that was current before the context."""
        self._carried.now = self._now
