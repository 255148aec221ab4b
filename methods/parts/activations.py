"""Tell whether an activation is GELU, and which form of GELU."""

from timm.layers.activations import GELU, GELUTanh
from torch import nn


def gelu_form(activation: object) -> str | None:
    """Return torch's name of a GELU's form: ``none`` is exact, ``tanh`` is an approximation.

    Return ``None`` if the activation is not GELU. torch has one class for both forms, timm has one
    class per form.
    """
    if isinstance(activation, nn.GELU):
        return activation.approximate
    if isinstance(activation, GELUTanh):
        return "tanh"
    return "none" if isinstance(activation, GELU) else None
