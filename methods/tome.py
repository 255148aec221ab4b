"""ToMe: merge similar tokens, a few in every block."""

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

    Does not select weights: alone, every weight trains; in ``tome+lora``, ``tome+head`` and others
    the second method selects. Stores every activation that autograd saves, for the remaining
    tokens; the merging itself stores only indices and weights. Approximates nothing in the backward
    pass, but the model computes a different function, also in evaluation. Does not save weights,
    gradients or optimizer state, and saves little in the first blocks. As in the official code,
    tokens are divided alternately into two sets. Each token of the first set is matched with the
    most similar token of the second, by the cosine similarity of their keys in this block (mean
    over heads). The ``merged`` most similar pairs are averaged, weighted by the number of patches
    that each token represents. The class token is never merged, and at most half of the other
    tokens are merged in one block. The choice has no gradient; the averages have gradients. Equally
    similar pairs are taken in order, which the paper leaves open; similarity is computed in fp32,
    also under bf16. The last block merges like the others, although only its MLP becomes cheaper.

    Attributes:
        merged: tokens merged in each block; the official code: 13 with DeiT-S and ViT-B.
        decreasing: merge twice as many tokens in the first block and none in the last, decreasing
            linearly; the paper has both variants.
        proportional: add the logarithm of a token's size to its attention scores as a key, as if
            its patches were still separate; the paper: for models not trained with merging, so
            off here.
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
        """Make each block merge tokens.

        Raises:
            Unsupported: the sequence has leading tokens other than one class token.
        """
        leading = vision_transformer(model).num_prefix_tokens
        if leading > 1:
            raise Unsupported(
                f"the model has {leading} leading tokens (registers or a distillation token); "
                "merging is defined for one class token at most"
            )
        merge_in(
            model,
            self._merged_by_block(len(blocks(model))),
            class_token=leading == 1,
            proportional=self.proportional,
        )
        return model

    def _merged_by_block(self, depth: int) -> tuple[int, ...]:
        """Return the largest number of tokens to merge in each block."""
        if not self.decreasing:
            return (self.merged,) * depth
        steps = max(1, depth - 1)
        return tuple(2 * self.merged * (depth - 1 - index) // steps for index in range(depth))

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the number of tokens in the output of each block."""
        counts = []
        for most in self._merged_by_block(depth):
            entering -= merged_tokens(entering, most)
            counts.append(entering)
        return tuple(counts)
