"""4-bit saved activations: whatever an operator saves is kept in 4 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.group_codes import FOUR_BITS
from bsrbench.methods.parts.saved_codes import save_codes


@dataclass(frozen=True)
class FourBitActivations(Method):
    """Keep every activation that an operator saves in 4 bits; the forward pass is exact.

    Stores 4-bit codes of each floating-point activation that is saved in a block or the final
    norm, whatever operator saves it: hooks on saved tensors see them all.
    Groups of 256 neighbours have a minimum and a step in fp32 (0.25 bits a number); where a token
    has fewer numbers, a group is one token, since a class token can be much smaller than its
    neighbours. One copy where several operators save the same tensor. Attention holds its softmax
    whole in the forward pass and keeps codes of it, as in the paper's models; fused attention would
    keep sums that codes of queries and keys no longer have, and gradients of pretrained weights
    grew without bound. Approximates gradients by stochastic rounding of what they are computed
    from. Does not save weights, gradients, optimizer state, the statistics of LayerNorm, integers,
    or what lies outside blocks and final norm. This is GACT's level L1: its adaptive levels, which
    give layers different widths, and its swapping are not here.

    Attributes:
        bits: width of a code; only 4 is implemented, as in the paper's L1.
        stochastic: round stochastically, as the paper; else to the nearest level.
    """

    bits: int = FOUR_BITS.bits
    stochastic: bool = True

    source = "Liu et al. 2022 (GACT), arXiv:2206.11357, section 5; level L1 of its code"
    exact_forward = True
    gradient_error = 0.11
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def __post_init__(self) -> None:
        if self.bits != FOUR_BITS.bits:
            raise ValueError(f"bits {self.bits} is not implemented; int4 keeps {FOUR_BITS.bits}")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm save codes."""
        save_codes(model, FOUR_BITS, stochastic=self.stochastic)
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how codes are made and read."""
        return kernels.facts(FOUR_BITS.kernels, device)
