"""AdaptFormer: train a bottleneck in parallel to each MLP."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head, width
from bsrbench.methods.parts.bottleneck import Bottleneck, check_bottleneck
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.new_modules import place
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only


@dataclass(frozen=True)
class AdaptFormer(Method):
    """Train a bottleneck in parallel to the MLP of each block, and the head; freeze all else.

    The bottleneck is a down-projection to ``bottleneck`` channels, a ReLU and an up-projection.
    Its output, times ``scale``, is added to the output of the MLP. Stores the bottleneck's input
    (the normalised tokens, one [batch, tokens, dim] per block), its inner activation (once, for
    the ReLU and the up-projection), and, as BitFit does, the activations that the gradient needs
    to reach the first block. Approximates nothing: the up-projection starts at zero, so training
    starts from the pretrained model. Does not save the backward pass through all blocks; it adds
    FLOPs, also in evaluation. The bottleneck has the same input as the MLP, as we read the paper's
    formula; the official image code uses the tokens before the norm. If blocks have LayerScale or
    stochastic depth, which the paper's models lack, both act on the sum of MLP and bottleneck. The
    BatchNorm before the head of the official code is omitted, because no other method here has
    one. The down-projection is initialised like torch's Linear layers, with bias 0.

    Attributes:
        bottleneck: inner width; the paper: 1 to 256, mostly 64.
        scale: factor of the branch; the paper: 0.1 for images.
        dropout: share of the inner activations dropped in training; official code: 0.1; here 0,
            because the other methods have no dropout either.
    """

    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = 0.0

    source = "Chen et al. 2022 (AdaptFormer), arXiv:2205.13535, section 3.2; official code 83eb926"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def __post_init__(self) -> None:
        check_bottleneck(self.bottleneck, self.scale, self.dropout)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; add a bottleneck to each MLP."""
        chain = blocks(model)
        require_all_train(model)
        train_only(model, [head(model)])
        for block in chain:
            branch = Bottleneck(
                width(model),
                self.bottleneck,
                scale=self.scale,
                dropout=self.dropout,
                where=place(model),
            )
            extend(block.mlp, WithBottleneck, adapter=branch)
        return model

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of both projections for all tokens."""
        return sum(tokens) * 2 * width * self.bottleneck


class WithBottleneck(nn.Module):
    """An MLP with a parallel bottleneck."""

    adapter: Bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] as the MLP does, and add the output of the bottleneck."""
        output: Tensor = super().forward(x) + self.adapter(x)
        return output
