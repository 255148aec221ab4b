"""Late reprogramming: block selection and token dropping as in BSR, only in the last blocks."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method, Unsupported
from bsrbench.harness.model.vit import blocks, final_norm, head, require_class_token
from bsrbench.methods.parts.option_checks import check_at_least, check_share
from bsrbench.methods.parts.recomputed_gelu import recompute_gelu
from bsrbench.methods.parts.token_dropping import KeepRate, drop_in, tokens_passed_on
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only


@dataclass(frozen=True)
class LateReprogramming(Method):
    """Train the last blocks, the final norm and the head; drop tokens only there.

    An idea of this project, for comparison with BSR. BSR's first trained block is the fourth of
    twelve, so every frozen block above it stores what the gradient needs to pass, and its first
    dropping changes the input of frozen blocks. Here nothing is stored below the trained blocks,
    because no gradient goes there, and the frozen blocks see all tokens. Stores the activations of
    the trained blocks, most of which have few tokens, and the dropped tokens for fusing.
    Approximates nothing in the backward pass, but the model computes a different function, also in
    evaluation. Does not save the forward pass of the frozen blocks: BSR has fewer FLOPs and is
    faster in evaluation.

    Attributes:
        trained: number of last blocks that train.
        keep_rate: share of the tokens kept by each trained block except the last, in (0, 1].
        fuse: sum the dropped tokens into one extra token, as BSR does.
    """

    trained: int = 3
    keep_rate: float = 0.5
    fuse: bool = True

    source = "bsrbench; after Sarkar et al. 2024 (BSR), arXiv:2405.10951, section 3"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})
    compiles = True

    def __post_init__(self) -> None:
        check_at_least("trained", self.trained, 1)
        check_share("keep_rate", self.keep_rate)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze all except the last blocks, final norm and head; these blocks drop tokens."""
        require_class_token(model)
        require_all_train(model)
        chain = blocks(model)
        if self.trained > len(chain):
            raise Unsupported(
                f"trained = {self.trained}, but the model has only {len(chain)} blocks"
            )
        chosen = self._chosen(len(chain))
        drop_in(model, chosen, KeepRate(self.keep_rate), fuse=self.fuse)
        train_only(model, [*(chain[i] for i in chosen), final_norm(model), head(model)])
        recompute_gelu(model, chosen)
        return model

    def _chosen(self, depth: int) -> tuple[int, ...]:
        return tuple(range(depth - self.trained, depth))

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the number of tokens in the output of each block."""
        chosen = self._chosen(depth)
        return tokens_passed_on(entering, depth, chosen, self.keep_rate, fuse=self.fuse)
