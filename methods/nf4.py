"""NF4, the frozen weights of QLoRA: store every Linear weight that does not train in 4 bits."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts.stored_weights import store_frozen_weights
from bsrbench.methods.parts.weight_codes import NF4


@dataclass(frozen=True)
class FourBitNormalFloatWeights(Method):
    """Store the weights of frozen Linear layers as 4-bit quantiles of a normal distribution.

    Stores half a byte per weight and one scale per 64 weights. The scales are stored in 8 bits
    too (double quantisation): their mean is subtracted, and 256 of them share one factor. A weight
    is made whole for each product, and again for the gradient of the layer's input, so one whole
    weight exists at a time. ``lora+nf4`` is QLoRA without its paged optimizer. Approximates the
    forward pass, because weights are rounded; gradients are those of the rounded weights. Does not
    save activations, gradients or optimizer state, and does not store other weights: patch
    embedding, norms, positions. It is named after a method that freezes weights.
    """

    source = "Dettmers et al. 2023 (QLoRA), arXiv:2305.14314, section 3"
    exact_forward = False
    forward_error = 0.2
    kinds: ClassVar = frozenset({Kind.STORES_WEIGHTS})
    saves_over_full = False
    follows = "head"

    def prepare(self, model: nn.Module) -> nn.Module:
        """Store the weight of every frozen Linear layer in 4 bits.

        Raises:
            Unsupported: no Linear layer is frozen.
        """
        store_frozen_weights(model, NF4)
        return model
