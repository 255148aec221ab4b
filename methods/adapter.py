"""AdaptFormer: a bottleneck trains beside each MLP."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from bsrbench.harness.method import Kind, Method
from bsrbench.harness.model.vit import blocks, head, width
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.new_modules import place
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only


@dataclass(frozen=True)
class AdaptFormer(Method):
    """Train a bottleneck beside the MLP of each block, and the head; all else is frozen.

    The bottleneck goes down to ``bottleneck``, through ReLU, up again, and is added to the MLP's
    output times ``scale``. Stores the bottleneck's input (the normalised tokens, one
    [batch, tokens, dim] a block) and its inner activation, once for ReLU and the layer above, and
    what lies on the gradient's way to the first block, as BitFit does. Approximates nothing: the
    up-projection starts at zero, so training starts from the pretrained model. Does not save the
    backward pass through all blocks; it adds FLOPs, in evaluation too. The input is the MLP's own,
    as we read the paper's formula; its image code takes the tokens before their norm. Where
    blocks have LayerScale or stochastic depth, which the paper's models lack, both act on the sum,
    since AdaptFormer puts the sum in the MLP's place. The code's BatchNorm before the head is not
    here: no other row has one. The down-projection is drawn as torch draws Linear layers, its bias
    starts at 0.

    Attributes:
        bottleneck: width in the middle; the paper: 1 to 256, mostly 64.
        scale: factor of the branch; the paper: 0.1 for images.
        dropout: share of the inner activations dropped in training; official code: 0.1; here 0, so
            that nothing random stands beside methods without it.
    """

    bottleneck: int = 64
    scale: float = 0.1
    dropout: float = 0.0

    source = "Chen et al. 2022 (AdaptFormer), arXiv:2205.13535, section 3.2; official code 83eb926"
    exact_forward = True
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS})
    compiles = True

    def __post_init__(self) -> None:
        check_at_least("bottleneck", self.bottleneck, 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} must lie in [0, 1)")
        if self.scale == 0:
            raise ValueError("scale 0 leaves the bottleneck without effect")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all but the head; put a bottleneck beside each MLP."""
        chain = blocks(model)
        require_all_train(model)
        train_only(model, [head(model)])
        for block in chain:
            branch = Bottleneck(width(model), self, place(model))
            extend(block.mlp, WithBottleneck, adapter=branch)
        return model

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return those of both projections, on every token."""
        return sum(tokens) * 2 * width * self.bottleneck


class Bottleneck(nn.Module):
    """Down, ReLU, up, and a factor."""

    def __init__(self, dim: int, options: AdaptFormer, where: dict[str, Any]) -> None:
        super().__init__()
        self.down = nn.Linear(dim, options.bottleneck, **where)
        self.drop = nn.Dropout(options.dropout)
        self.up = nn.Linear(options.bottleneck, dim, **where)
        self.scale = options.scale
        for start in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim]."""
        output: Tensor = self.up(self.drop(self.down(x).relu())) * self.scale
        return output


class WithBottleneck(nn.Module):
    """An MLP beside which a bottleneck works."""

    adapter: Bottleneck

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] as the MLP does, and add what the bottleneck says."""
        output: Tensor = super().forward(x) + self.adapter(x)
        return output
