"""A LayerNorm and the Linear layer behind it that share one stored tensor."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bsrbench.harness.model.stored_weight import StoredWeight
from bsrbench.methods.parts import packed_operators
from bsrbench.methods.parts.packed_operators import Packed, exact_type

NORMALISED = "normalised_and_affine"  # attribute of the output of a norm


class KeepsNormalised(nn.Module):
    """A LayerNorm whose backward pass reads its normalised output, before scale and shift.

    The output of the norm carries the normalised one to the Linear layer behind it, and takes it
    along when it is freed.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [batch, tokens, dim]."""
        norm: Any = self
        needed = x.requires_grad or any(part.requires_grad for part in norm.parameters())
        if not (torch.is_grad_enabled() and needed):
            plain: Tensor = super().forward(x)
            return plain
        output, normalised = _Norm.apply(x, norm.weight, norm.bias, norm.eps)
        setattr(output, NORMALISED, (normalised, norm.weight, norm.bias))
        result: Tensor = output
        return result


class ReadsNormalised(nn.Module):
    """A Linear layer that stores no input of its own if this is the output of a norm."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, in] to [batch, tokens, out]."""
        layer: Any = self
        kept = getattr(x, NORMALISED, None)
        plain = isinstance(self, StoredWeight) or not torch.is_grad_enabled()
        if kept is None or plain or not layer.weight.requires_grad:
            output: Tensor = super().forward(x)
            return output
        return packed_operators.linear(x, layer.weight, layer.bias, partial(_packed, *kept))


def _packed(normalised: Tensor, scale: Tensor, shift: Tensor | None, _: Tensor) -> Packed:
    """Return what stands for the output of a norm: its normalised output, scale and shift."""
    parts = (normalised, scale) if shift is None else (normalised, scale, shift)
    return Packed(parts, _output_of)


def _output_of(kept: Sequence[Tensor], images: slice) -> Tensor:
    """Return the output of a norm for some images."""
    normalised, scale, *shift = kept
    some = normalised[images]
    return torch.addcmul(shift[0], some, scale) if shift else some * scale


class _Norm(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, epsilon: float
    ) -> tuple[Tensor, Tensor]:
        exact = x.to(exact_type(x, weight))
        normalised, _, inverse = torch.native_layer_norm(exact, x.shape[-1:], None, None, epsilon)
        output = normalised * weight if bias is None else torch.addcmul(bias, normalised, weight)
        ctx.dtype = x.dtype
        ctx.save_for_backward(normalised, inverse, weight, bias)
        ctx.mark_non_differentiable(normalised)
        return output, normalised

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Use torch's formula on the normalised output: its mean is 0 and its deviation is 1."""
        normalised, inverse, weight, bias = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
            gradients[0],
            normalised,
            normalised.shape[-1:],
            torch.zeros_like(inverse),
            torch.ones_like(inverse),
            weight,
            bias,
            ctx.needs_input_grad[:3],
        )
        of_input = None if of_x is None else of_x.mul_(inverse).to(ctx.dtype)
        return of_input, of_weight, of_bias, None
