"""4-bit saved activations: store what operators save in 4 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.group_codes import FOUR_BITS
from bsrbench.methods.parts.saved_codes import save_codes


@dataclass(frozen=True)
class FourBitActivations(Method):
    """Store every saved activation in 4 bits; the forward pass is exact.

    Stores 4-bit codes of each floating-point activation that an operator saves in a block or the
    final norm; hooks on saved tensors see all of them. Each group of 256 neighbours also has a
    minimum and a step in fp32 (0.25 bits per number). If a token has fewer numbers, a group is one
    token, because a class token can be much smaller than its neighbours. A tensor that several
    operators save is stored once. Attention computes its softmax explicitly in the forward pass
    and stores codes of it, as in the paper's models. Fused attention would store row sums that do
    not match the coded queries and keys, and gradients of pretrained weights would grow without
    bound. Approximates gradients, because their inputs are rounded stochastically. Does not save
    weights, gradients, optimizer state, the statistics of LayerNorm, integers, or anything outside
    blocks and final norm. This is GACT's level L1; its adaptive levels, which give layers
    different widths, and its swapping are not implemented.

    Attributes:
        bits: width of a code; only 4 is implemented, as in the paper's L1.
        stochastic: round stochastically, as in the paper; otherwise to the nearest level.
    """

    bits: int = FOUR_BITS.bits
    stochastic: bool = True

    source = "Liu et al. 2022 (GACT), arXiv:2206.11357, section 5; level L1 of its code"
    exact_forward = True
    gradient_error = 0.11
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if self.bits != FOUR_BITS.bits:
            raise ValueError(f"bits {self.bits} is not implemented; int4 has {FOUR_BITS.bits}")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm save codes."""
        save_codes(model, FOUR_BITS, stochastic=self.stochastic)
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how the packing kernels run."""
        return kernels.facts(FOUR_BITS.kernels, device)

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:
        """Return which of these kernels are not in the cache yet."""
        return kernels.to_compile(FOUR_BITS.kernels, device)
