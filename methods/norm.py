"""LayerNorm tuning: train the scales and shifts of the norms, and the head."""

from dataclasses import dataclass
from typing import ClassVar

from timm.layers import RmsNorm, RmsNorm2d
from timm.layers.norm import RmsNorm2dFp32, RmsNormFp32
from torch import nn

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import head
from bsrbench.methods.parts.trained_parameters import train_only

# RMSNorm replaces LayerNorm in later models; timm has its own classes.
NORMS = (nn.LayerNorm, nn.RMSNorm, RmsNorm, RmsNormFp32, RmsNorm2d, RmsNorm2dFp32)


@dataclass(frozen=True)
class NormTuning(Method):
    """Train the scale and shift of every LayerNorm, and the classification head.

    Stores what the gradient needs to reach the first block: q, k, v and the attention's output, and
    the inputs of GELU and LayerNorm; not the inputs of Linear layers. Approximates nothing. Does
    not save the backward pass through all blocks. All LayerNorms of the model train, including the
    final norm, and also RMSNorm, which has only a scale. BatchNorm and GroupNorm in the
    convolutional stems of some transformers stay frozen.
    """

    source = "Basu et al. 2023 (LN-Tune), arXiv:2304.01917, abstract"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except norms and head.

        Raises:
            Unsupported: no LayerNorm or RMSNorm has parameters.
        """
        norms = [module for module in model.modules() if isinstance(module, NORMS)]
        if not any(list(norm.parameters()) for norm in norms):
            raise Unsupported(
                f"{type(model).__name__} has no LayerNorm or RMSNorm with weights to train"
            )
        train_only(model, [*norms, head(model)])
        return model
