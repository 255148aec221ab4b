"""An MLP that computes GELU's output again instead of keeping it."""

from typing import Any

import torch
from torch import Tensor, nn

from harness.vit import blocks
from methods.parts import compressed
from methods.parts.extend import extend


def recompute_gelu(model: nn.Module, indices: tuple[int, ...]) -> None:
    """Make the MLPs of some blocks keep GELU's input alone; logits and gradients stay the same."""
    chain = blocks(model)
    for index in indices:
        recompute_gelu_of(chain[index])


def recompute_gelu_of(block: Any) -> None:
    """Make one block's MLP keep GELU's input alone, if that is its activation."""
    if isinstance(block.mlp.act, nn.GELU):
        extend(block.mlp, RecomputesGelu, codec=compressed.as_is)


class RecomputesGelu(nn.Module):
    """timm's MLP, whose second Linear layer's input is computed from GELU's in the backward pass.

    That input is four times as wide as the block's, and GELU is cheap.
    """

    codec: compressed.Codec

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        mlp: Any = self
        plain = all(isinstance(part, nn.Identity) for part in (mlp.norm,)) and not (
            mlp.training and mlp.drop1.p > 0
        )
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
