"""LayerNorm tuning: the norms' scales and shifts and the head train."""

from dataclasses import dataclass
from typing import ClassVar

from timm.layers import RmsNorm, RmsNorm2d
from timm.layers.norm import RmsNorm2dFp32, RmsNormFp32
from torch import nn

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import head
from bsrbench.methods.parts.trained_parameters import train_only

# RMSNorm stands where LayerNorm did in later models; timm's are not torch's.
NORMS = (nn.LayerNorm, nn.RMSNorm, RmsNorm, RmsNormFp32, RmsNorm2d, RmsNorm2dFp32)


@dataclass(frozen=True)
class NormTuning(Method):
    """Train the scale and shift of every LayerNorm, and the classification head.

    Stores what the gradient needs on its way to the first block: q, k, v and the attention's
    output, inputs of GELU and LayerNorm; not the inputs of Linear layers. Approximates nothing.
    Does not save the backward pass through all blocks. The norms are all of the model's, the one
    after the last block too, and RMSNorm, which has a scale alone, is one of them. BatchNorm and
    GroupNorm, which the convolutions below some transformers have, stay frozen.
    """

    source = "Basu et al. 2023 (LN-Tune), arXiv:2304.01917, abstract"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all but norms and head.

        Raises:
            Unsupported: no LayerNorm and no RMSNorm has anything to train.
        """
        norms = [module for module in model.modules() if isinstance(module, NORMS)]
        if not any(list(norm.parameters()) for norm in norms):
            raise Unsupported(
                f"{type(model).__name__} has no LayerNorm or RMSNorm with weights to train"
            )
        train_only(model, [*norms, head(model)])
        return model
