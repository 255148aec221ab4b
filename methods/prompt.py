"""VPT: train prompt tokens, added before the first block or before every block."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method, Unsupported
from bsrbench.harness.model.vit import blocks, head, vision_transformer
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.new_modules import draw_prompts
from bsrbench.methods.parts.option_checks import check_at_least
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only


@dataclass(frozen=True)
class VisualPromptTuning(Method):
    """Train a few prompt tokens after the class token, and the head; freeze all else.

    Shallow: the prompts enter the first block and pass through the blocks like other tokens. Deep:
    the prompts in the output of a block are discarded, and the next block gets its own prompts.
    Prompts are also used in evaluation. Stores, as BitFit does, what the gradient needs to reach
    the first block, for the prompts too; no inputs of Linear layers. Approximates nothing, but the
    model computes a different function from the start. Does not save the backward pass through all
    blocks; memory and FLOPs grow with the number of prompts. Prompts have no position embedding.
    They are drawn uniformly between plus and minus the square root of 6 / (3 patch area + dim), as
    in the official code. The official code's projection of prompts, and its initialisation from
    class tokens, are not implemented.

    Attributes:
        length: number of prompts per block; the paper chooses 1 to 200 on validation data; official
            code's default: 5.
        deep: new prompts before every block; the paper has both variants, and deep is better.
        dropout: share of the prompts' elements dropped in training; official code's default: 0.
    """

    length: int = 5
    deep: bool = True
    dropout: float = 0.0

    source = "Jia et al. 2022 (VPT), arXiv:2203.12119, section 3.2; official code 7f3942e"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.ADDS_TOKENS})
    compiles = True

    def __post_init__(self) -> None:
        check_at_least("length", self.length, 1)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} must lie in [0, 1)")

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; give prompts to the first block or to all blocks.

        Raises:
            Unsupported: the head reads more than the class token.
        """
        vit = vision_transformer(model)
        if vit.cls_token is None or vit.global_pool != "token":
            raise Unsupported(
                f"the head reads {vit.global_pool!r}, not the class token: its average would "
                "include the prompts"
            )
        chain = blocks(model)
        require_all_train(model)
        train_only(model, [head(model)])
        for index, block in enumerate(chain if self.deep else chain[:1]):
            extend(
                block,
                TakesPrompts,
                prompts=draw_prompts(model, self.length),
                prompt_drop=nn.Dropout(self.dropout),
                leading=vit.num_prefix_tokens,
                replaced=self.length if index else 0,
            )
        return model

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the number of tokens in the output of each block, prompts included."""
        return (entering + self.length,) * depth

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the additional multiply-adds of the first block's attention with prompts."""
        after = tokens[0]
        before = after - self.length
        return self.length * 4 * width**2 + 2 * (after**2 - before**2) * width


class TakesPrompts(nn.Module):
    """A block that inserts prompts after the class token, replacing earlier prompts."""

    prompts: nn.Parameter
    prompt_drop: nn.Dropout
    leading: int
    replaced: int

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to the same number of tokens, or to more if none is replaced."""
        prompts = self.prompt_drop(self.prompts.expand(x.shape[0], -1, -1)).to(x.dtype)
        others = x[:, self.leading + self.replaced :]
        output: Tensor = super().forward(torch.cat([x[:, : self.leading], prompts, others], dim=1))
        return output
