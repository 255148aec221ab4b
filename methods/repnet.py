"""Side-branch reprogramming: new blocks beside frozen ones, as BSR's official code could."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method
from bsrbench.harness.model.vit import blocks, final_norm, head, require_blocks, require_class_token
from bsrbench.methods.parts.extend_module import extend, require_unextended
from bsrbench.methods.parts.new_modules import new_block
from bsrbench.methods.parts.option_checks import check_blocks, check_share
from bsrbench.methods.parts.recomputed_gelu import recompute_gelu_of
from bsrbench.methods.parts.token_dropping import DropsTokens, KeepRate, drop_in, tokens_passed_on
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

SIDE_BLOCKS = (2, 5, 8, 11)
MLP_RATIO = 4


@dataclass(frozen=True)
class SideReprogramming(Method):
    """Train new blocks beside a few frozen ones, the final norm and the head.

    A new block of full width gets what enters the frozen block, and its output is added to the
    frozen one's. BSR's official code has this (``reprogram_index``); no published script uses it,
    so there is no result to compare with. Stores the activations of the new blocks, as of blocks
    that train, and of frozen blocks above the first of them what the gradient needs to pass;
    nothing below. Approximates nothing in the backward pass, but the function trained is another
    one: the new blocks start at random, and a sum of two blocks' outputs carries the tokens twice.
    Does not save the forward pass: it adds that of the new blocks. In new blocks GELU's output is
    computed again, as in ``bsr``. Weights of new blocks are drawn with standard deviation 0.02.

    With one block alone the official code feeds the new block not from the backbone but from a
    patch embedding of its own of the raw image, which makes it another method, the only one in
    which the side does not read what the backbone saw; that is left out, and one block is refused.
    Unused patch embeddings, which the code trains without a gradient, are not made.

    Attributes:
        side_blocks: frozen blocks that get a new one beside them, two at least; the code has no
            default, its comments name (2, 5, 8, 11) of 12.
        drop_at: blocks that drop tokens as in ``bsr``, in the code by an option of its own; what
            enters a new block then loses the same tokens. None by default.
        keep_rate: share of the tokens kept there, in (0, 1]; the code's default: 0.5.
        fuse: sum the dropped tokens into one extra token; the code has both.
    """

    side_blocks: tuple[int, ...] = SIDE_BLOCKS
    drop_at: tuple[int, ...] = ()
    keep_rate: float = 0.5
    fuse: bool = True

    source = "Sarkar et al. 2024 (BSR), official code f3a8595, reprogram_index"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})
    compiles = True

    def __post_init__(self) -> None:
        check_blocks("side_blocks", self.side_blocks)
        check_blocks("drop_at", self.drop_at)
        check_share("keep_rate", self.keep_rate)
        if len(self.side_blocks) < 2:  # noqa: PLR2004 - see the card
            raise ValueError(
                f"side_blocks {self.side_blocks} must be two blocks at least; with one, the "
                "official code reads the raw image, which is another method and not implemented"
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all but final norm and head; put new blocks beside the chosen ones."""
        require_class_token(model)
        require_blocks(model, "side_blocks", self.side_blocks, SIDE_BLOCKS)
        require_blocks(model, "drop_at", self.drop_at)
        require_all_train(model)
        require_unextended(model, self.name())
        train_only(model, [final_norm(model), head(model)])
        if self.drop_at:
            drop_in(model, self.drop_at, KeepRate(self.keep_rate), fuse=self.fuse)
        chain = blocks(model)
        for index in self.side_blocks:
            own = chain[index]
            dim = own.attn.qkv.in_features
            side = new_block(own, width=dim, hidden=MLP_RATIO * dim)
            recompute_gelu_of(side)
            extend(own, AddsSideBlock, side=side)
        return model

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return how many tokens each block passes on."""
        return tokens_passed_on(entering, depth, self.drop_at, self.keep_rate, fuse=self.fuse)

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return those of the new blocks, which see the tokens that are left."""
        counts = [tokens[index] for index in self.side_blocks]
        return sum(12 * width**2 * count + 2 * width * count**2 for count in counts)


class AddsSideBlock(nn.Module):
    """A block to whose output a new block's is added, which has the same input."""

    side: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to as many tokens, or to fewer where the block drops some."""
        own: Any = self
        if isinstance(own, DropsTokens):
            main, same = own.choose(x)
            dropped: Tensor = main + self.side(same(x))
            return dropped
        output: Tensor = super().forward(x) + self.side(x)
        return output
