"""LayerNorm tuning: the norms' scales and shifts and the head train."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from harness.method import Kind, Method, Unsupported
from harness.vit import head
from methods.parts.freeze import train_only


@dataclass(frozen=True)
class NormTuning(Method):
    """Train the scale and shift of every LayerNorm, and the classification head.

    Stores what the gradient needs on its way to the first block: q, k, v and the attention's
    output, inputs of GELU and LayerNorm; not the inputs of Linear layers. Approximates nothing.
    Does not save the backward pass through all blocks. The norms are all of the model's, the one
    after the last block too.
    """

    source = "Basu et al. 2023 (LN-Tune), arXiv:2304.01917, abstract"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all but norms and head.

        Raises:
            Unsupported: no LayerNorm has anything to train.
        """
        norms = [module for module in model.modules() if isinstance(module, nn.LayerNorm)]
        if not any(list(norm.parameters()) for norm in norms):
            raise Unsupported(f"{type(model).__name__} has no LayerNorm with weights to train")
        train_only(model, [*norms, head(model)])
        return model
