"""Late reprogramming: BSR's two means, moved to the end of the chain of blocks."""

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
    """Train the last blocks whole, the final norm and the head; drop tokens only there.

    An idea of this project, to be measured against BSR. BSR's first trained block is the fourth of
    twelve, so every frozen block above it keeps what the gradient needs to pass, and its first
    dropping disturbs features that stay frozen. Here nothing is kept below the trained blocks, for
    no gradient goes there, and the frozen features are those of all tokens. Stores the activations
    of the trained blocks, most of them of few tokens, and the dropped tokens, which the fusing
    needs. Approximates nothing in the backward pass, but the function trained is another one, in
    evaluation too. Does not save the forward pass of the frozen blocks: in FLOPs and time of
    evaluation BSR is cheaper.

    Attributes:
        trained: how many of the last blocks train whole.
        keep_rate: share of the tokens kept by each trained block but the last, in (0, 1].
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
        """Freeze all but the last blocks, final norm and head; make those blocks drop tokens."""
        require_class_token(model)
        require_all_train(model)
        chain = blocks(model)
        if self.trained > len(chain):
            raise Unsupported(f"trained = {self.trained}, and the model has {len(chain)} blocks")
        chosen = self._chosen(len(chain))
        drop_in(model, chosen, KeepRate(self.keep_rate), fuse=self.fuse)
        train_only(model, [*(chain[i] for i in chosen), final_norm(model), head(model)])
        recompute_gelu(model, chosen)
        return model

    def _chosen(self, depth: int) -> tuple[int, ...]:
        return tuple(range(depth - self.trained, depth))

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return how many tokens each block passes on."""
        chosen = self._chosen(depth)
        return tokens_passed_on(entering, depth, chosen, self.keep_rate, fuse=self.fuse)
