"""8-bit frozen weights: store every Linear weight that does not train in 8 bits."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.stored_weights import store_frozen_weights
from bsrbench.methods.parts.weight_codes import INT8


@dataclass(frozen=True)
class EightBitWeights(Method):
    """Store the weights of frozen Linear layers in 8 bits; biases and all that trains are exact.

    Stores one byte per weight and one scale per output: the largest weight of an output gets the
    code 127, and the codes are symmetric. A weight is made whole for each product, and again for
    the gradient of the layer's input, so one whole weight exists at a time. Approximates the
    forward pass, because weights are rounded; gradients are those of the rounded weights. Does not
    save activations, gradients or optimizer state, and does not store other weights: patch
    embedding, norms, positions. It is named after a method that freezes weights.
    """

    source = "baseline (Jacob et al. 2018, arXiv:1712.05877, section 2: one scale per channel)"
    exact_forward = False
    forward_error = 0.03
    kinds: ClassVar = frozenset({Kind.STORES_WEIGHTS})
    saves_over_full = False
    follows = "head"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Store the weight of every frozen Linear layer in 8 bits.

        Raises:
            Unsupported: no Linear layer is frozen.
        """
        store_frozen_weights(model, INT8)
        return model
