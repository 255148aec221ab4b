"""2-bit saved activations: whatever an operator saves is kept in 2 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.group_codes import TWO_BITS
from bsrbench.methods.parts.saved_codes import save_codes


@dataclass(frozen=True)
class TwoBitActivations(Method):
    """Keep every activation that an operator saves in 2 bits; the forward pass is exact.

    Stores 2-bit codes of each floating-point activation that is saved in a block or the final norm,
    whatever operator saves it, and for groups of 256 neighbours (one token, where a token has
    fewer) a minimum and a step in fp32: 2.25 bits a number. Attention holds its softmax whole in
    the forward pass and keeps codes of it, as in the paper's models. All is as in ``int4``, with
    four levels in the place of sixteen. Approximates gradients by stochastic rounding of what they
    are computed from, and coarsely: a number of a group that has an outlier is hardly more than
    noise, and each norm hands its error on. On a pretrained ViT-S (DINOv2 trained further, eight
    photographs at 112 px; seen once, no record is kept) the gradient of ``full`` was off by 44 to
    96 times its length and that of ``lora`` by 3, where ``int4`` was off by 0.6 and 0.08: at a
    fixed width of 2 bits such a network can hardly train. Does not save weights, gradients,
    optimizer state, statistics of LayerNorm, integers, or what lies outside blocks and final norm.
    This is level L1.2 of GACT's code; its L2.2 gives layers different widths, 2 bits on average,
    and is not here.

    Attributes:
        stochastic: round stochastically, as the paper; else to the nearest level.
    """

    stochastic: bool = True

    source = "Liu et al. 2022 (GACT), arXiv:2206.11357, section 5; level L1.2 of its code"
    exact_forward = True
    gradient_error = 0.5
    kinds: ClassVar = frozenset({Kind.STORES_ACTIVATIONS})

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks and final norm save codes."""
        save_codes(model, TWO_BITS, stochastic=self.stochastic)
        return model

    def environment(self, device: str) -> dict[str, Any]:
        """Return how codes are made and read."""
        return kernels.facts(TWO_BITS.kernels, device)
