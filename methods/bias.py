"""BitFit: train the biases and the head."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import head
from bsrbench.methods.parts.trained_parameters import train_only


@dataclass(frozen=True)
class BitFit(Method):
    """Train every bias and the classification head.

    Stores what the gradient needs to reach the first bias: q, k, v and the attention's output, and
    the inputs of GELU and LayerNorm; not the inputs of Linear layers. Approximates nothing. Does
    not save the backward pass through all blocks. As in the official code of BSR and Back Razor, a
    bias is any parameter named ``bias``, including those of LayerNorm and of the patch embedding.
    A vector with this word in its name is a bias too, such as ``q_bias`` and ``v_bias`` of BEiT
    and EVA and ``mlp_bias`` of parallel blocks. Tables of position biases of attention scores are
    not biases here, because they are not added to a layer's output.
    """

    source = "Ben Zaken et al. 2022 (BitFit), arXiv:2106.10199, section 3"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except biases and head."""
        train_only(model, [head(model)])
        for name, parameter in model.named_parameters():
            if _is_bias(name.rpartition(".")[2], parameter):
                parameter.requires_grad_(True)
        return model


def _is_bias(name: str, parameter: nn.Parameter) -> bool:
    return name == "bias" or (parameter.dim() == 1 and "bias" in name.split("_"))
