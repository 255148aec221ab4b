"""Side-branch reprogramming: new blocks in parallel to frozen ones, an option of BSR's code."""

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
    """Train new blocks in parallel to a few frozen ones, the final norm and the head.

    A new block of full width has the same input as the frozen block, and its output is added to
    the output of the frozen block. BSR's official code has this option (``reprogram_index``); no
    published script uses it, so there is no published result. Stores the activations of the new
    blocks and, for frozen blocks above the first of them, what the gradient needs to pass; nothing
    below. Approximates nothing in the backward pass, but the model computes a different function:
    the new blocks start at random, and the sum of two block outputs contains the tokens twice.
    Does not save the forward pass: the new blocks add to it. In new blocks the output of GELU is
    recomputed, as in ``bsr``. The weights of new blocks are drawn with standard deviation 0.02.

    With a single new block the official code computes its input from the raw image by a separate
    patch embedding instead of the backbone. That is a different method; it is not implemented, and
    a single block is refused. The unused patch embeddings of the official code, which get no
    gradient, are not created.

    Attributes:
        side_blocks: frozen blocks that get a parallel new block, at least two; the code has no
            default, its comments name (2, 5, 8, 11) of 12.
        drop_at: blocks that drop tokens as in ``bsr`` (a separate option in the code); the input
            of a new block loses the same tokens. None by default.
        keep_rate: share of the tokens kept there, in (0, 1]; the code's default: 0.5.
        fuse: sum the dropped tokens into one extra token; the code has both variants.
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
        if len(self.side_blocks) < 2:  # noqa: PLR2004 - see the docstring of the class
            raise ValueError(
                f"side_blocks {self.side_blocks} must be at least two blocks; with one block the "
                "official code reads the raw image, which is a different method, not implemented"
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all except final norm and head; add new blocks to the chosen ones."""
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
        """Return the number of tokens in the output of each block."""
        return tokens_passed_on(entering, depth, self.drop_at, self.keep_rate, fuse=self.fuse)

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the new blocks for the remaining tokens."""
        counts = [tokens[index] for index in self.side_blocks]
        return sum(12 * width**2 * count + 2 * width * count**2 for count in counts)


class AddsSideBlock(nn.Module):
    """A block with a parallel new block: same input, and the outputs are added."""

    side: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to as many tokens, or to fewer if the block drops some."""
        own: Any = self
        if isinstance(own, DropsTokens):
            main, same = own.choose(x)
            dropped: Tensor = main + self.side(same(x))
            return dropped
        output: Tensor = super().forward(x) + self.side(x)
        return output
