"""Modules that store the saved activations of all their operators as codes of few bits."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from bsrbench.harness.model.attention import Mixes, mix
from bsrbench.harness.model.vit import stored_blocks, stored_norm
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.group_codes import GroupCodes
from bsrbench.methods.parts.quantise import draws
from bsrbench.methods.parts.saved_tensors import Packing, unpacking

GROUP = 256  # numbers that share a range; GACT, section 5
BY_TOKEN = 3  # number of dimensions of an activation [batch, tokens, channels]


def save_codes(model: nn.Module, codes: GroupCodes, *, stochastic: bool) -> None:
    """Make blocks and final norm save codes.

    Raises:
        Unsupported: they already save codes, or the type of the model's blocks is not known.
    """
    chain = stored_blocks(model)
    for module in (*chain, stored_norm(model)):
        extend(module, SavesCodes, codes=codes, stochastic=stochastic)
    for block in chain:
        extend(block.attn, HoldsSoftmax)


class HoldsSoftmax(Mixes):
    """An attention that computes its softmax explicitly if its backward pass will read codes.

    Fused attention saves the logarithm of each row's sum instead. The queries and keys that are
    unpacked from codes have other sums, so rows of the recomputed softmax would not add up to 1.
    """

    def mix(
        self, qkv: Tensor, *, ranked: bool, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None] | None:
        """Attend with qkv [batch, tokens, 3 dim]; return ``None`` if nothing is saved."""
        if not (torch.is_grad_enabled() and qkv.requires_grad):
            return None
        return mix(self, qkv, ranked=ranked, exact=True, bias=bias)


class SavesCodes(nn.Module):
    """A module that stores its saved activations as codes."""

    codes: GroupCodes
    stochastic: bool

    def forward(self, x: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Run the module, and save codes for the backward pass.

        ``x`` is [batch, tokens, dim]. A rung of a ladder gets two such tensors with different dim.
        """
        weights = {parameter.shape for parameter in self.parameters()}
        weights |= {shape[::-1] for shape in weights}
        images = len(x if isinstance(x, Tensor) else x[0])  # a rung of a ladder gets two tensors
        pack = partial(_pack, images=images, codes=self.codes, stochastic=self.stochastic)
        packing = Packing(partial(_is_activation, weights=weights), pack)
        with saved_tensors_hooks(packing, unpacking(_unpack)):
            output: Tensor = super().forward(x)
        return output


@dataclass(frozen=True)
class Quantised:
    """A quantised tensor: words [groups, words per group], low and step [groups, 1]."""

    words: Tensor
    low: Tensor
    step: Tensor
    codes: GroupCodes
    shape: torch.Size
    dtype: torch.dtype


def _is_activation(saved: Tensor, *, weights: set[torch.Size]) -> bool:
    """Tell activations apart from weights, cast or transposed weights, and statistics."""
    if not saved.is_floating_point() or saved.dim() == 1 or saved.shape[-1] == 1:
        return False
    return saved.shape not in weights


def _pack(x: Tensor, *, images: int, codes: GroupCodes, stochastic: bool) -> Quantised:
    flat = x.reshape(-1).to(torch.float32)
    size = _group(x, images, codes.a_word)
    if missing := -flat.numel() % size:
        flat = F.pad(flat, (0, missing))
    groups = flat.view(-1, size)
    words, low, step = codes.pack(groups, *draws(groups, stochastic=stochastic))
    return Quantised(words, low, step, codes, x.shape, x.dtype)


def _group(x: Tensor, images: int, codes_a_word: int) -> int:
    """Return how many numbers share a range: 256, or those of one token if a token has fewer.

    Linear layers save [images x tokens, channels]. Matrix products of attention save tensors with
    heads in the first dimensions.
    """
    by_token = x.dim() < BY_TOKEN or (x.dim() == BY_TOKEN and x.shape[0] == images)
    return min(GROUP, x.shape[-1]) if by_token and x.shape[-1] % codes_a_word == 0 else GROUP


def _unpack(kept: Quantised) -> Tensor:
    flat = kept.codes.unpack(kept.words, kept.low, kept.step).view(-1)
    whole: Tensor = flat[: kept.shape.numel()].view(kept.shape).to(kept.dtype)
    return whole
