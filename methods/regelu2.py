"""ReGELU2: the backward pass of GELU reads 2 bits per number."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from bsrbench.harness.method import Kind, Method, Unsupported
from bsrbench.harness.model.vit import stored_blocks
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.activations import gelu_form
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.gelu_levels import A_WORD, FIND, READ, find_levels, read_levels
from bsrbench.methods.parts.packed_operators import ELEMENT_BYTES, chunks


@dataclass(frozen=True)
class TwoBitGeluDerivative(Method):
    """Store one of four levels of GELU's derivative in 2 bits; the forward pass is exact.

    Stores 2 bits for each input element of a block's GELU: the level that replaces the derivative
    there. The output of GELU is still stored in full by the second Linear layer if its weight
    trains. If a block recomputes GELU from its input (the trained blocks of ``bsr``), the input is
    stored in full anyway; there the derivative is exact, and nothing is added. The more
    parameters are frozen, the more memory is saved.

    Approximates the derivative by a step function with the levels 0, -0.0492, 1.0487 and 1 and the
    thresholds -3.1859, -0.0012 and 3.1908. The integral of the steps should have the least squared
    distance to GELU. Our own search found 0.0095069 with the thresholds -3.1714, 0 and 3.1695 and
    the levels -0.0496 and 1.0496; the published numbers, which are used here, have 0.0095095. Near
    0 the derivative is one half, and no level is near: with random weights, where all inputs are
    near 0, the error of the gradient is 1.4 times its length. On a pretrained ViT-S (DINOv2,
    fine-tuned; eight photographs at 112 px; one observation, not recorded) the error was 0.97 for
    ``full``, 0.50 for ``bsr`` and 0.15 for ``lora``.

    Does not save anything else: the inputs of Linear and LayerNorm and what attention saves are
    unchanged. MS-LN, the other half of the paper, is ``mslnorm``; ``regelu2+mslnorm`` is the whole
    method.
    """

    source = "Yang et al. 2024 (Approx-BP), arXiv:2406.16282; official code d35b090"
    exact_forward = True
    gradient_error = 1.6
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make the GELU of each block store levels.

        Raises:
            Unsupported: a block has an activation without known levels.
        """
        activations: list[Any] = [getattr(block.mlp, "act", None) for block in stored_blocks(model)]
        for activation in activations:
            _require_gelu(activation)
        for activation in activations:
            extend(activation, KeepsLevels)
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how the kernels for levels run."""
        return kernels.facts([FIND, READ], device)

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:
        """Return which of these kernels are not in the cache yet."""
        return kernels.to_compile([FIND, READ], device)


def _require_gelu(activation: Any) -> None:
    form = gelu_form(activation)
    if form is None:
        kind = type(activation).__name__
        raise Unsupported(
            f"the activation {kind} is not GELU; levels are known only for the derivative of GELU"
        )
    if form != "none":
        raise Unsupported(
            f"GELU with the approximation {form!r} is not supported: the levels are for exact GELU"
        )


class KeepsLevels(nn.Module):
    """A GELU that stores one of four levels of its derivative for each element."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] element by element."""
        if not (torch.is_grad_enabled() and x.requires_grad):
            return F.gelu(x)
        output: Tensor = _SteppedGelu.apply(x)
        return output


class _SteppedGelu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = x.detach().flatten(0, -2).to(torch.float32)
        if missing := -rows.shape[1] % A_WORD:
            rows = F.pad(rows, (0, missing))
        ctx.save_for_backward(find_levels(rows).view(*x.shape[:-1], -1))
        return F.gelu(x)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor]:
        (gradient,) = outputs
        (words,) = ctx.saved_tensors
        of_x = torch.empty_like(gradient)
        width = gradient.shape[-1]
        for images in chunks(gradient, width, ELEMENT_BYTES):
            some = gradient[images]
            levels = read_levels(words[images].flatten(0, -2))[:, :width].view_as(some)
            torch.mul(some, levels, out=of_x[images])
        return (of_x,)
