"""An MLP that computes GELU's output again instead of keeping it."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.experts import ExpertMlp
from harness.vit import blocks, passes_all
from methods.parts import compressed
from methods.parts.experts import KeepsLittle
from methods.parts.extend import extend


def recompute_gelu(model: nn.Module, indices: tuple[int, ...]) -> None:
    """Make the MLPs of some blocks keep GELU's input alone; logits and gradients stay the same."""
    chain = blocks(model)
    for index in indices:
        recompute_gelu_of(chain[index])


def recompute_gelu_of(block: Any) -> None:
    """Make one block's MLP, dense or of experts, keep GELU's input alone, if it has a GELU."""
    mlp = block.mlp
    if not isinstance(mlp.act, nn.GELU):
        return
    if isinstance(mlp, ExpertMlp):
        extend(mlp, KeepsLittle, inputs=compressed.as_is, hidden=compressed.as_is)
    else:
        extend(mlp, RecomputesGelu, codec=compressed.as_is)


class RecomputesGelu(nn.Module):
    """timm's MLP, whose second Linear layer's input is computed from GELU's in the backward pass.

    That input is four times as wide as the block's, and GELU is cheap.
    """

    codec: compressed.Codec

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        mlp: Any = self
        plain = isinstance(mlp.norm, nn.Identity) and passes_all(mlp.drop1)
        trains = torch.is_grad_enabled() and getattr(mlp.fc2, "weight", x).requires_grad
        # A compiler decides itself what to compute again; other layers have ways of their own.
        if not plain or not trains or torch.compiler.is_compiling() or not _is_linear(mlp.fc2):
            output: Tensor = super().forward(x)
            return output
        mixed = compressed.gelu_linear(mlp.fc1(x), mlp.fc2.weight, mlp.fc2.bias, self.codec)
        dropped: Tensor = mlp.drop2(mixed)
        return dropped


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) and not hasattr(layer, "base_layer")
