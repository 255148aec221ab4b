"""ToMe: tokens that are alike are merged, a few in every block."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method, Unsupported
from bsrbench.harness.model.vit import blocks, vision_transformer
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.token_merging import merge_in, merged_tokens


@dataclass(frozen=True)
class TokenMerging(Method):
    """Merge the most similar tokens in every block, between its attention and its MLP.

    Chooses nothing to train: alone every weight trains, and ``tome+lora``, ``tome+head`` and the
    like train what the other says. Stores every activation autograd asks for, of the tokens that
    are left; of a merging only who went where, and weights. Approximates nothing in the backward
    pass, but the function trained is another one, in evaluation too. Does not save weights,
    gradients, optimizer state, or much in the first blocks. Follows the official code: tokens are
    dealt in turn to two sets, each of the first finds the most similar of the second by the cosine
    of their keys in this block, mean over heads, and the ``merged`` best pairs become averages
    weighted by how many patches each token stands for. The class token is never merged, and at
    most half of the others go in one block. The choice carries no gradient, the averages do. Pairs
    equally similar are taken in their order, which the paper leaves open, and similarity is
    computed in fp32 under bf16, too. The last block merges as the others do, though its MLP alone
    profits.

    Attributes:
        merged: tokens merged away in each block; the official code: 13 with DeiT-S and ViT-B.
        decreasing: merge twice as many in the first block, none in the last, in even steps; the
            paper has both.
        proportional: add the logarithm of a token's size to the scores it is attended with, as if
            its patches were still there; the paper: for models that are not trained with merging,
            so not here.
    """

    merged: int = 13
    decreasing: bool = False
    proportional: bool = False

    source = "Bolya et al. 2023 (ToMe), arXiv:2210.09461, section 3; official code"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.DROPS_TOKENS})
    compiles = True

    def __post_init__(self) -> None:
        check_at_least("merged", self.merged, 1)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks merge tokens.

        Raises:
            Unsupported: tokens beside one class token lead the sequence.
        """
        leading = vision_transformer(model).num_prefix_tokens
        if leading > 1:
            raise Unsupported(
                f"the model has {leading} leading tokens (registers or a distillation token); "
                "merging is defined for one class token at most"
            )
        merge_in(
            model,
            self._wanted(len(blocks(model))),
            class_token=leading == 1,
            proportional=self.proportional,
        )
        return model

    def _wanted(self, depth: int) -> tuple[int, ...]:
        if not self.decreasing:
            return (self.merged,) * depth
        steps = max(1, depth - 1)
        return tuple(2 * self.merged * (depth - 1 - index) // steps for index in range(depth))

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return how many tokens each block passes on."""
        counts = []
        for wanted in self._wanted(depth):
            entering -= merged_tokens(entering, wanted)
            counts.append(entering)
        return tuple(counts)
