"""Which operators computed attention, in the words that records and reports have for it."""

from collections.abc import Iterable

PRODUCTS = "products and a softmax"
NONE_FUSED = f"none fused: {PRODUCTS}"


def described(operators: Iterable[str], *, explicit: bool = False) -> str:
    """Return the fused attention among operators that ran, or that none of them was.

    Args:
        operators: names as torch writes them, ``aten.bmm`` say; forward and backward.
        explicit: whether products and a softmax computed some attention, too.
    """
    fused = sorted(name for name in operators if "attention" in name and "backward" not in name)
    return ", ".join([*fused, *([PRODUCTS] if explicit else [])]) if fused else NONE_FUSED
