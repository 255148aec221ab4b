"""EViT: train every weight, and drop tokens."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method
from bsrbench.harness.model.vit import require_blocks, require_class_token
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.option_checks import check_at_least, check_blocks, check_share
from bsrbench.methods.parts.token_dropping import KeepRate, drop_in, tokens_passed_on
from bsrbench.methods.parts.trained_parameters import require_all_train

DROP_AT = (3, 6, 9)


@dataclass(frozen=True)
class ExpeditedTransformer(Method):
    """Train every parameter; drop the tokens with the least class-token attention three times.

    Stores all activations that autograd saves, for the remaining tokens, and a copy of the fused
    tokens. Approximates nothing in the backward pass, but the model computes a different function,
    also in evaluation. Does not save weights, gradients, optimizer state or anything before the
    first dropping; while the keep rate still falls, it saves less than later. Tokens are dropped
    as in ``bsr``, which took the mechanism from EViT. The default rate is that of the paper's
    abstract (DeiT-S is 50 % faster at 0.3 % lower accuracy); compare at ``keep_rate`` 0.5 to see
    the effect of BSR's choice of blocks alone. The official schedule counts epochs, this one
    counts optimizer steps; if there is a schedule, the count is part of the state dict.

    Attributes:
        drop_at: blocks that drop tokens; the paper: (3, 6, 9) of 12.
        keep_rate: share of the tokens kept, in (0, 1], rounded up; the paper: 0.5 to 0.9.
        fuse: sum the dropped tokens into one extra token; the paper has both variants.
        shrink_start: number of first optimizer steps that keep all tokens; the paper's training:
            10 epochs, its fine-tuning: 0.
        shrink_steps: number of steps in which the rate then falls along half a cosine to
            ``keep_rate``; the paper's training: 100 epochs, its fine-tuning: 0. Evaluation uses
            the current rate. FLOPs and tokens of a record are those of the first step, at rate 1.
    """

    drop_at: tuple[int, ...] = DROP_AT
    keep_rate: float = 0.7
    fuse: bool = True
    shrink_start: int = 0
    shrink_steps: int = 0

    source = "Liang et al. 2022 (EViT), arXiv:2202.07800, section 3"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})
    compiles = True

    def __post_init__(self) -> None:
        check_blocks("drop_at", self.drop_at)
        check_share("keep_rate", self.keep_rate)
        check_at_least("shrink_start", self.shrink_start, 0)
        check_at_least("shrink_steps", self.shrink_steps, 0)

    @cached_property
    def _rate(self) -> KeepRate:
        """The current keep rate: the only mutable state, shared with the prepared model."""
        return KeepRate(self.keep_rate, self.shrink_start, self.shrink_steps)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Make blocks drop tokens."""
        require_class_token(model)
        require_blocks(model, "drop_at", self.drop_at, DROP_AT)
        require_all_train(model)
        drop_in(model, self.drop_at, self._rate, fuse=self.fuse)
        if self.shrink_start + self.shrink_steps:
            extend(model, RemembersSteps, keep_rate=self._rate)
        return model

    def step_done(self) -> None:
        """Count a step."""
        self._rate.done += 1

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the number of tokens in the output of each block, at the final rate."""
        return tokens_passed_on(entering, depth, self.drop_at, self.keep_rate, fuse=self.fuse)


class RemembersSteps(nn.Module):
    """A model whose state dict contains the number of optimizer steps of its keep rate."""

    keep_rate: KeepRate

    def get_extra_state(self) -> int:
        """Return the number of completed steps."""
        return self.keep_rate.done

    def set_extra_state(self, state: int) -> None:
        """Continue from a number of completed steps."""
        self.keep_rate.done = state
