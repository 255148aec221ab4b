"""An MLP that recomputes the output of GELU instead of storing it."""

from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import ExpertMlp
from bsrbench.harness.model.stored_weight import StoredWeight
from bsrbench.harness.model.vit import blocks, passes_all
from bsrbench.methods.parts import packed_operators
from bsrbench.methods.parts.activations import gelu_form
from bsrbench.methods.parts.extend_module import extend, own_class
from bsrbench.methods.parts.packed_experts import KeepsLittle


def is_plain(mlp: object) -> bool:
    """Tell whether an MLP is timm's plain one: Linear layer, activation, Linear layer, no gate."""
    return isinstance(mlp, nn.Module) and own_class(mlp) is Mlp and isinstance(mlp.fc1, nn.Linear)


def require_plain(model_blocks: list[Any], why: str) -> None:
    """Check that every block has a plain MLP.

    Args:
        model_blocks: timm's blocks.
        why: why the method needs a plain MLP; part of the error message.

    Raises:
        Unsupported: an MLP is gated or has another structure.
    """
    for index, block in enumerate(model_blocks):
        if not is_plain(block.mlp):
            kind = own_class(block.mlp).__name__
            raise Unsupported(f"the MLP of block {index} is a {kind}, not timm's plain Mlp; {why}")


def recompute_gelu(model: nn.Module, indices: tuple[int, ...]) -> None:
    """Make the MLPs of some blocks store only GELU's input; logits and gradients stay the same."""
    chain = blocks(model)
    for index in indices:
        recompute_gelu_of(chain[index])


def recompute_gelu_of(block: Any) -> None:
    """Make a block's MLP store only GELU's input, if it has a GELU and is plain or has experts.

    A gated MLP is not changed, because its second layer does not read the output of GELU directly.
    """
    mlp = block.mlp
    form = gelu_form(getattr(mlp, "act", None))
    if form is None:
        return
    if isinstance(mlp, ExpertMlp):
        extend(
            mlp,
            KeepsLittle,
            inputs=packed_operators.as_is,
            hidden=packed_operators.as_is,
            form=form,
        )
    elif is_plain(mlp):
        extend(mlp, RecomputesGelu, codec=packed_operators.as_is, form=form)


class RecomputesGelu(nn.Module):
    """timm's MLP; the backward pass recomputes the output of GELU from GELU's input.

    This output is usually four times as wide as the block's input, and GELU is cheap to compute.
    """

    codec: packed_operators.Codec
    form: str

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        mlp: Any = self
        plain = isinstance(mlp.norm, nn.Identity) and passes_all(mlp.drop1)
        trains = torch.is_grad_enabled() and _is_linear(mlp.fc2) and mlp.fc2.weight.requires_grad
        # A compiler decides itself what to recompute. Layers of other types run their own forward.
        if not plain or not trains or torch.compiler.is_compiling():
            output: Tensor = super().forward(x)
            return output
        second = mlp.fc2
        mixed = packed_operators.gelu_linear(
            mlp.fc1(x), second.weight, second.bias, self.codec, self.form
        )
        dropped: Tensor = mlp.drop2(mixed)
        return dropped


def _is_linear(layer: nn.Module) -> bool:
    plain = isinstance(layer, nn.Linear) and not isinstance(layer, StoredWeight)
    return plain and not hasattr(layer, "base_layer")
