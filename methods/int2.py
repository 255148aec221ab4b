"""2-bit saved activations: store what operators save in 2 bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import Kind, Method
from bsrbench.methods.parts import kernels
from bsrbench.methods.parts.group_codes import TWO_BITS
from bsrbench.methods.parts.saved_codes import save_codes


@dataclass(frozen=True)
class TwoBitActivations(Method):
    """Store every saved activation in 2 bits; the forward pass is exact.

    Stores 2-bit codes of each floating-point activation that an operator saves in a block or the
    final norm. Each group of 256 neighbours (one token if a token has fewer numbers) also has a
    minimum and a step in fp32: 2.25 bits per number in total. Attention computes its softmax
    explicitly in the forward pass and stores codes of it, as in the paper's models. Everything is
    as in ``int4``, with four levels instead of sixteen. Approximates gradients, because their
    inputs are rounded stochastically and coarsely: in a group with an outlier the other numbers
    are little more than noise, and each norm propagates its error. On a pretrained ViT-S (DINOv2,
    fine-tuned; eight photographs at 112 px; one observation, not recorded) the error of the
    gradient was 44 to 96 times its length for ``full`` and 3 times for ``lora``; with ``int4`` it
    was 0.6 and 0.08. At a fixed width of 2 bits such a network can hardly train. Does not save
    weights, gradients, optimizer state, statistics of LayerNorm, integers, or anything outside
    blocks and final norm. This is level L1.2 of GACT's code; level L2.2, which gives layers
    different widths with a mean of 2 bits, is not implemented.

    Attributes:
        stochastic: round stochastically, as in the paper; otherwise to the nearest level.
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
        """Return how the packing kernels run."""
        return kernels.facts(TWO_BITS.kernels, device)

    def kernels_to_compile(self, device: str) -> tuple[str, ...]:
        """Return which of these kernels are not in the cache yet."""
        return kernels.to_compile(TWO_BITS.kernels, device)
