"""Which operators computed attention, in the words that records and reports have for it."""

from collections.abc import Iterable

NONE_FUSED = "none fused: products and a softmax"


def described(operators: Iterable[str]) -> str:
    """Return the fused attention among operators that ran, or that none of them was.

    Args:
        operators: names as torch writes them, ``aten.bmm`` say; forward and backward.
    """
    fused = sorted(name for name in operators if "attention" in name and "backward" not in name)
    return ", ".join(fused) or NONE_FUSED
