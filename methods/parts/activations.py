"""Tell which activations are GELU, and of which form."""

from timm.layers.activations import GELU, GELUTanh
from torch import nn


def gelu_form(activation: object) -> str | None:
    """Return the form of a GELU as torch names it: ``none`` is exact, ``tanh`` approximates.

    ``None`` is any other activation. torch has one module for both forms, timm one for each.
    """
    if isinstance(activation, nn.GELU):
        return activation.approximate
    if isinstance(activation, GELUTanh):
        return "tanh"
    return "none" if isinstance(activation, GELU) else None
