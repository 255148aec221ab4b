"""Hand something from block to block beside the tokens, so that a block can be run again."""

from torch import Tensor, nn


class Carried:
    """What is on its way from one block to the next within a forward pass.

    Attributes:
        now: what the last block has left; ``None`` between forward passes.
    """

    def __init__(self) -> None:
        self.now: Tensor | None = None


class Carries(nn.Module):
    """A block that reads and leaves something beside the tokens."""

    carried: Carried


class CarriedAgain:
    """While it is entered, what is on its way is what it was when this was made."""

    def __init__(self, carried: Carried) -> None:
        self._carried, self._then, self._now = carried, carried.now, carried.now

    def __enter__(self) -> None:
        """Go back."""
        self._now, self._carried.now = self._carried.now, self._then

    def __exit__(self, *_: object) -> None:
        """Leave it as it was found."""
        self._carried.now = self._now
