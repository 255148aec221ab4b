"""8-bit saved activations: what the backward pass reads is kept in 8 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar, cast
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from harness.method import Kind, Method, Unsupported
from harness.vit import blocks, final_norm, width
from methods.parts.extend import extend
from methods.parts.quantise import Codes, quantise, restore


@dataclass(frozen=True)
class EightBitActivations(Method):
    """Keep the activations saved for the backward pass in 8 bits; the forward pass is exact.

    Stores, for every block and the final norm, each saved tensor of shape [batch, tokens, dim] or
    [batch, heads, tokens, head dim] as uint8 codes with a minimum and a step per group of
    channels, one group a head, as Mesa; a tensor that several operators save is stored once. Under
    fused attention these are q, k, v and the output. Approximates gradients by stochastic
    rounding of what they are computed from. Does not save weights, gradients, optimizer state,
    attention's row sums, the statistics of LayerNorm or the patch embedding's input. Where Mesa
    keeps a running range per layer, the range here is the tensor's own, so nothing is clipped.

    Attributes:
        bits: width of a code; only 8 is implemented, as in the paper.
        stochastic: round stochastically, as the paper; else to the nearest level.
    """

    bits: int = 8
    stochastic: bool = True

    source = "Pan et al. 2021 (Mesa), arXiv:2111.11124, section 3"
    exact_forward = True
    gradient_error = 0.08
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if self.bits != 8:  # noqa: PLR2004 - the method's name
            raise ValueError(f"bits {self.bits} is not implemented; int8 keeps 8")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks, final norm and their Linear layers save codes."""
        chain = blocks(model)
        groups = chain[0].attn.num_heads
        for module in (*chain, final_norm(model)):
            if not list(module.parameters()):
                raise Unsupported(f"{type(module).__name__} has nothing to compress")
            for linear in [part for part in module.modules() if isinstance(part, nn.Linear)]:
                fits = linear.in_features % groups == 0
                extend(linear, SavesInput, groups=groups if fits else 1, stochastic=self.stochastic)
            extend(module, SavesCodes, groups=groups, dim=width(model), stochastic=self.stochastic)
        return model


class SavesCodes(nn.Module):
    """A module whose saved activations are kept as codes."""

    groups: int
    dim: int
    stochastic: bool

    def forward(self, x: Tensor) -> Tensor:
        """Do what the module does, with 8-bit copies for the backward pass."""
        pack = _Packing(self.groups, self.dim, stochastic=self.stochastic)
        with saved_tensors_hooks(pack, _unpack):
            output: Tensor = super().forward(x)
        return output


class _Packing:
    """The pack hook of one module call; a tensor saved twice is quantised once."""

    def __init__(self, groups: int, dim: int, *, stochastic: bool) -> None:
        self.groups, self.dim, self.stochastic = groups, dim, stochastic
        # Weak on both sides: the hook may outlive what it packed.
        self.packed: dict[tuple[Any, ...], tuple[ref[Any], ref[Codes]]] = {}

    def __call__(self, saved: Tensor) -> Tensor | Codes:
        if not self._is_activation(saved):
            return saved
        storage = saved.untyped_storage()
        layout = saved.storage_offset(), saved.shape, saved.stride(), saved.dtype
        place = storage._cdata, layout, saved._version  # noqa: SLF001 - torch names them so
        known = self.packed.get(place)
        codes = known[1]() if known and known[0]() is storage else None
        if codes is None:
            codes = quantise(saved.detach(), self.groups, stochastic=self.stochastic)
            self.packed[place] = (ref(storage), ref(codes))
        return codes

    def _is_activation(self, saved: Tensor) -> bool:
        """Tell activations by their shape; weights and their casts have one or two dimensions."""
        if not saved.is_floating_point():
            return False
        if saved.dim() == 3:  # noqa: PLR2004 - [batch, tokens, dim]
            return saved.shape[2] % self.dim == 0
        four = saved.dim() == 4  # noqa: PLR2004 - [batch, heads, tokens, head dim]
        return four and saved.shape[1] * saved.shape[3] == self.dim


def _unpack(kept: Tensor | Codes) -> Tensor:
    return restore(kept) if isinstance(kept, Codes) else kept


class SavesInput(nn.Module):
    """A Linear layer that keeps its input as codes, and only if its weight trains."""

    groups: int
    stochastic: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in features] to [..., out features]."""
        layer = cast("nn.Linear", self)
        if not (layer.weight.requires_grad and torch.is_grad_enabled()):
            return F.linear(x, layer.weight, layer.bias)
        output: Tensor = _LinearOfCodes.apply(
            x, layer.weight, layer.bias, self.groups, self.stochastic
        )
        return output


class _LinearOfCodes(torch.autograd.Function):
    """``F.linear`` whose weight gradient is computed from the restored codes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int, stochastic: bool
    ) -> Tensor:
        kept = quantise(x.detach().reshape(1, -1, x.shape[-1]), groups, stochastic=stochastic)
        # Saved, not set on ctx: autograd frees what is saved as soon as backward has read it.
        ctx.save_for_backward(weight, kept.codes, kept.low, kept.step)
        ctx.dtype = kept.dtype
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        weight, codes, low, step = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)
        of_x = gradient @ weight.to(gradient.dtype) if needs_x else None
        of_weight = of_bias = None
        if needs_weight:
            x = restore(Codes(codes, low, step, 0, 1, ctx.dtype)).flatten(0, -2)
            of_weight = (rows.T @ x.to(rows.dtype)).to(weight.dtype)
        if needs_bias:
            of_bias = rows.sum(0).to(weight.dtype)
        return of_x, of_weight, of_bias, None, None
