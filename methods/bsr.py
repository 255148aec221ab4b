"""BSR, block selective reprogramming: train a few blocks, and drop tokens."""

from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from torch import nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method
from bsrbench.harness.model.vit import blocks, final_norm, head, require_blocks, require_class_token
from bsrbench.methods.parts.option_checks import check_blocks, check_share
from bsrbench.methods.parts.recomputed_gelu import recompute_gelu
from bsrbench.methods.parts.token_dropping import KeepRate, drop_in, tokens_passed_on
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

TRAINED_BLOCKS = (3, 7, 11)
DROP_AT = (3, 6, 9)
# The search space of ``variants``. LAST: numbers of trained blocks that are the last blocks.
# SPREAD: numbers of trained blocks that are evenly spaced. DROPS: positions of the blocks that drop
# tokens, as fractions of the depth. KEEP_RATES: shares of the tokens kept.
LAST, SPREAD = (1, 2, 3, 4), (2, 3, 4)
DROPS = ((0.25, 0.5, 0.75), (0.1, 0.35, 0.6), (0.5, 0.67, 0.84), (0.17,))
KEEP_RATES = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class BlockSelectiveReprogramming(Method):
    """Train a few blocks, the final norm and the head; drop half of the tokens three times.

    Stores the activations of the trained blocks and, for frozen blocks above the first trained
    block, what the gradient needs to pass through them. Dropped tokens cost nothing in later
    blocks, but fusing keeps a copy of them. In trained blocks the output of GELU is recomputed
    from its input instead of stored, with identical results; gated MLPs are unchanged. Mixtures of
    experts in trained blocks train with their gates, and store neither GELU's output nor the
    outputs of experts. Approximates nothing in the backward pass, but the model computes a
    different function, also in evaluation. Does not save the forward pass before the first
    dropping. As in the official code, tokens are dropped after the attention and its residual
    addition; the extra token is weighted by the raw attention, with its gradient, and takes part
    in later rankings. Tokens with equal attention keep their order, which the paper leaves open.
    The last block never drops tokens, even if it is named.

    Attributes:
        trained_blocks: blocks that train, counted from 0; the paper: (3, 7, 11) of 12.
        drop_at: blocks that drop tokens; the paper: (3, 6, 9) of 12.
        keep_rate: share of the tokens kept, in (0, 1], rounded up; the paper's scripts: 0.5,
            and 0.7 in the script for several tasks.
        fuse: sum the dropped tokens into one extra token; the paper's scripts: yes,
            except for several tasks.
        exact_attention: hold the whole attention matrix of the blocks that drop, as the official
            code does; otherwise use fused attention and compute only the class token's row in
            addition. The logits are the same.
    """

    trained_blocks: tuple[int, ...] = TRAINED_BLOCKS
    drop_at: tuple[int, ...] = DROP_AT
    keep_rate: float = 0.5
    fuse: bool = True
    exact_attention: bool = False

    source = "Sarkar et al. 2024 (BSR), arXiv:2405.10951, section 3; official code f3a8595"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})
    compiles = True

    def __post_init__(self) -> None:
        check_blocks("trained_blocks", self.trained_blocks)
        check_blocks("drop_at", self.drop_at)
        check_share("keep_rate", self.keep_rate)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all except the chosen blocks, final norm and head; make blocks drop tokens."""
        require_class_token(model)
        require_blocks(model, "trained_blocks", self.trained_blocks, TRAINED_BLOCKS)
        require_blocks(model, "drop_at", self.drop_at, DROP_AT)
        require_all_train(model)
        drop_in(
            model,
            self.drop_at,
            KeepRate(self.keep_rate),
            fuse=self.fuse,
            exact_attention=self.exact_attention,
        )
        chain = blocks(model)
        chosen = [chain[index] for index in self.trained_blocks]
        train_only(model, [*chosen, final_norm(model), head(model)])
        recompute_gelu(model, self.trained_blocks)
        return model

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the number of tokens in the output of each block."""
        return tokens_passed_on(entering, depth, self.drop_at, self.keep_rate, fuse=self.fuse)

    @classmethod
    def variants(cls, depth: int) -> tuple[dict[str, Any], ...]:
        """Return combinations of trained blocks, dropping blocks, keep rate and fusing."""
        trained = [tuple(range(depth - count, depth)) for count in LAST if count <= depth]
        trained += [_spread(count, depth) for count in SPREAD if count <= depth]
        dropping = [
            {"drop_at": places, "keep_rate": rate, "fuse": fuse}
            for places, rate, fuse in product(_places(depth), KEEP_RATES, (True, False))
        ]
        return tuple(
            {"trained_blocks": blocks} | how
            for blocks, how in product(dict.fromkeys(trained), [{"drop_at": ()}, *dropping])
        )


def _spread(count: int, depth: int) -> tuple[int, ...]:
    """Return ``count`` evenly spaced blocks that include the last, like the paper's three."""
    return tuple((number + 1) * depth // count - 1 for number in range(count))


def _places(depth: int) -> list[tuple[int, ...]]:
    """Return sets of blocks that drop tokens; for twelve blocks the first is the paper's."""
    choices = [tuple(dict.fromkeys(int(share * depth) for share in shares)) for shares in DROPS]
    return list(dict.fromkeys(choices))
