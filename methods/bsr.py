"""BSR, block selective reprogramming: few trained blocks, fewer and fewer tokens."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from harness.method import PAPER_DEPTH, Kind, Method
from harness.vit import blocks, final_norm, head, require_blocks, require_class_token
from methods.parts.extend import extend
from methods.parts.freeze import train_only
from methods.parts.tokens import DropsTokens, tokens_after

TRAINED_BLOCKS = (3, 7, 11)
DROP_AT = (3, 6, 9)


@dataclass(frozen=True)
class BlockSelectiveReprogramming(Method):
    """Train a few whole blocks, the final norm and the head; drop half the tokens thrice.

    Stores the activations of trained blocks, and of frozen blocks above the first trained one
    what the gradient needs to pass; tokens that were dropped cost nothing afterwards. Nothing is
    approximated in the backward pass, but the function trained is another one, in evaluation
    too. Does not save the forward pass before the first dropping. Follows the official code:
    dropping happens after the attention and its residual addition, the extra token carries the
    raw attention as weights with their gradient, and takes part in later ranking. The class
    token's attention is computed apart, so attention stays fused. The last block never drops.

    Attributes:
        trained_blocks: blocks that train whole, counted from 0; the paper: (3, 7, 11) of 12.
        drop_at: blocks that drop tokens; the paper: (3, 6, 9) of 12.
        keep_rate: share of the tokens kept, in (0, 1]; the paper's scripts: 0.5.
        fuse: sum the dropped tokens into one extra token; the paper's scripts: yes.
    """

    trained_blocks: tuple[int, ...] = TRAINED_BLOCKS
    drop_at: tuple[int, ...] = DROP_AT
    keep_rate: float = 0.5
    fuse: bool = True

    source = "Sarkar et al. 2024 (BSR), arXiv:2405.10951; official code f3a8595"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})

    def __post_init__(self) -> None:
        for option in ("trained_blocks", "drop_at"):
            indices = getattr(self, option)
            if any(index < 0 for index in indices) or len(set(indices)) < len(indices):
                raise ValueError(f"{option} {indices} must be different blocks counted from 0")
        if not 0 < self.keep_rate <= 1:
            raise ValueError(f"keep_rate {self.keep_rate} must lie in (0, 1]")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all but the chosen blocks, final norm and head; make blocks drop tokens."""
        require_class_token(model)
        require_blocks(model, "trained_blocks", self.trained_blocks, TRAINED_BLOCKS)
        require_blocks(model, "drop_at", self.drop_at, DROP_AT)
        chain = blocks(model)
        chosen = [chain[index] for index in self.trained_blocks]
        train_only(model, [*chosen, final_norm(model), head(model)])
        for index in self.drop_at:
            if index < len(chain) - 1:
                extend(chain[index], DropsTokens, keep_rate=self.keep_rate, fuse=self.fuse)
        return model

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return how many tokens each block passes on."""
        counts = []
        for index in range(depth):
            if index in self.drop_at and index < depth - 1:
                entering = tokens_after(entering, self.keep_rate, fuse=self.fuse)
            counts.append(entering)
        return tuple(counts)
