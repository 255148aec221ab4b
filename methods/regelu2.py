"""ReGELU2: the backward pass of GELU reads 2 bits a number."""

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
    """Keep which of four levels GELU's derivative has, in 2 bits; the forward pass is exact.

    Stores 2 bits for each number that enters a block's GELU: which of four levels stands for the
    derivative there. What the second Linear layer reads, GELU's output, is kept whole beside it by
    that layer if its weight trains, as ever. In a block whose GELU is computed again from its input
    (the trained ones of ``bsr``) that input is kept whole anyway and serves both: there the
    derivative stays exact, and nothing is added. So the more is frozen, the more is saved.

    Approximates the derivative by steps: 0, -0.0492, 1.0487 and 1, from -3.1859, -0.0012 and 3.1908
    on. The steps' integral is meant to be nearest to GELU in the mean square. A search of ours for
    the least integral of squares found 0.0095069 at -3.1714, 0 and 3.1695 with levels -0.0496 and
    1.0496; the published numbers, which are used here, have 0.0095095. Around 0 the derivative is a
    half and no level is near: of random weights, which keep all numbers there, the gradient is off
    by 1.4 times its length. On a pretrained ViT-S (DINOv2 trained further, eight photographs at 112
    px; seen once, no record is kept) it was 0.97 for ``full``, 0.50 for ``bsr``, 0.15 for ``lora``.

    Does not save anything but that: inputs of Linear and LayerNorm and what attention keeps stay.
    MS-LN, the paper's other half, is left out: it merges the norms' weights into the layers that
    follow, and here a model's parameters stay the ones they are.
    """

    source = "Yang et al. 2024 (Approx-BP), arXiv:2406.16282; official code d35b090"
    exact_forward = True
    gradient_error = 1.6
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make the blocks' GELU keep levels.

        Raises:
            Unsupported: a block has another activation, for which there are no levels here.
        """
        found: list[Any] = [getattr(block.mlp, "act", None) for block in stored_blocks(model)]
        for activation in found:
            _require_gelu(activation)
        for activation in found:
            extend(activation, KeepsLevels)
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how levels are found and read."""
        return kernels.facts([FIND, READ], device)


def _require_gelu(activation: Any) -> None:
    form = gelu_form(activation)
    if form is None:
        kind = type(activation).__name__
        raise Unsupported(f"the activation {kind} is not GELU, whose derivative has known levels")
    if form != "none":
        raise Unsupported(f"GELU by {form!r} is not known: the levels fit the exact one")


class KeepsLevels(nn.Module):
    """A GELU whose derivative is kept as one of four levels."""

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
