"""4-bit saved activations: whatever an operator saves is kept in 4 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import ref

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from harness.method import Kind, Method
from harness.vit import stored_blocks, stored_norm
from methods.parts import kernels
from methods.parts.extend import extend
from methods.parts.quantise import draws
from methods.parts.quantise4 import PACK4, UNPACK4, pack4, unpack4

BITS = 4
GROUP = 256  # numbers with one range; the paper, section 5
CODES_A_WORD = 8
BY_TOKEN = 3  # dimensions of an activation [batch, tokens, channels]


@dataclass(frozen=True)
class FourBitActivations(Method):
    """Keep every activation that an operator saves in 4 bits; the forward pass is exact.

    Stores 4-bit codes of each floating-point activation that is saved in a block or the final
    norm, whatever operator saves it: hooks on saved tensors see them all.
    Groups of 256 neighbours have a minimum and a step in fp32 (0.25 bits a number); where a token
    has fewer numbers, a group is one token, since a class token can be much smaller than its
    neighbours. One copy where several operators save the same tensor. Approximates gradients by
    stochastic rounding of what they are computed from. Does not save weights, gradients, optimizer
    state, the statistics of LayerNorm, attention's row sums (a 4-bit logarithm would scale whole
    rows), integers, or what lies outside blocks and final norm. This is GACT's level L1: its
    adaptive levels, which give layers different widths, and its swapping are not here.

    Attributes:
        bits: width of a code; only 4 is implemented, as in the paper's L1.
        stochastic: round stochastically, as the paper; else to the nearest level.
    """

    bits: int = BITS
    stochastic: bool = True

    source = "Liu et al. 2022 (GACT), arXiv:2206.11357, section 5; level L1 of its code"
    exact_forward = True
    gradient_error = 0.09
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if self.bits != BITS:
            raise ValueError(f"bits {self.bits} is not implemented; int4 keeps {BITS}")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm save codes."""
        chain = stored_blocks(model)
        heads = chain[0].attn.num_heads
        for module in (*chain, stored_norm(model)):
            extend(module, SavesCodes, heads=heads, stochastic=self.stochastic)
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how codes are made and read."""
        return kernels.facts([PACK4, UNPACK4], device)


class SavesCodes(nn.Module):
    """A module whose saved activations are kept as codes."""

    heads: int
    stochastic: bool

    def forward(self, x: Tensor) -> Tensor:
        """Do what the module does, with 4-bit copies for the backward pass."""
        shapes = {parameter.shape for parameter in self.parameters()}
        shapes |= {shape[::-1] for shape in shapes}
        pack = _Packing(shapes, self.heads, stochastic=self.stochastic)
        with saved_tensors_hooks(pack, _unpack):
            output: Tensor = super().forward(x)
        return output


@dataclass(frozen=True)
class Codes:
    """A quantised tensor: words [groups, group / 8], and low and step [groups, 1]."""

    words: Tensor
    low: Tensor
    step: Tensor
    shape: torch.Size
    dtype: torch.dtype


class _Packing:
    """The pack hook of one module call; a tensor saved twice is quantised once."""

    def __init__(self, weights: set[torch.Size], heads: int, *, stochastic: bool) -> None:
        self._weights, self._heads, self._stochastic = weights, heads, stochastic
        # Weak on both sides: the hook may outlive what it packed.
        self._packed: dict[tuple[Any, ...], tuple[ref[Any], ref[Codes]]] = {}

    def __call__(self, saved: Tensor) -> Tensor | Codes:
        if not self._is_activation(saved):
            return saved
        storage = saved.untyped_storage()
        layout = saved.storage_offset(), saved.shape, saved.stride(), saved.dtype
        place = storage._cdata, layout, saved._version  # noqa: SLF001 - torch names them so
        known = self._packed.get(place)
        codes = known[1]() if known and known[0]() is storage else None
        if codes is None:
            codes = _pack(saved.detach(), stochastic=self._stochastic)
            self._packed[place] = (ref(storage), ref(codes))
        return codes

    def _is_activation(self, saved: Tensor) -> bool:
        """Tell activations from weights, also cast or transposed ones, and from statistics."""
        if not saved.is_floating_point() or saved.dim() == 1 or saved.shape[-1] == 1:
            return False
        if saved.shape in self._weights:
            return False
        # By image, head and token: attention's row sums.
        return not (saved.dim() == BY_TOKEN and saved.shape[1] == self._heads)


def _pack(x: Tensor, *, stochastic: bool) -> Codes:
    flat = x.reshape(-1).to(torch.float32)
    size = _group(x)
    if missing := -flat.numel() % size:
        flat = F.pad(flat, (0, missing))
    groups = flat.view(-1, size)
    words, low, step = pack4(groups, *draws(groups, stochastic=stochastic))
    return Codes(words, low, step, x.shape, x.dtype)


def _group(x: Tensor) -> int:
    """Return how many numbers share a range: 256, or a token's where a token has fewer."""
    channels = x.shape[-1]
    by_token = x.dim() <= BY_TOKEN and channels % CODES_A_WORD == 0
    return min(GROUP, channels) if by_token else GROUP


def _unpack(kept: Tensor | Codes) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    flat = unpack4(kept.words, kept.low, kept.step).view(-1)
    whole: Tensor = flat[: kept.shape.numel()].view(kept.shape).to(kept.dtype)
    return whole
