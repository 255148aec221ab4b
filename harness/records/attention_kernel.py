"""Describe the operators that computed attention, for records and reports."""

from collections.abc import Iterable

PRODUCTS = "products and a softmax"
NONE_FUSED = f"none fused: {PRODUCTS}"


def described(operators: Iterable[str], *, explicit: bool = False) -> str:
    """Return the names of the fused attention operators, or a text that says that there are none.

    Args:
        operators: names of the operators that ran, such as ``aten.bmm``; forward and backward.
        explicit: whether products and a softmax also computed some attention.
    """
    fused = sorted(name for name in operators if "attention" in name and "backward" not in name)
    return ", ".join([*fused, *([PRODUCTS] if explicit else [])]) if fused else NONE_FUSED
