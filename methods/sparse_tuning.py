"""Sparse-Tuning: drop tokens, and train bottlenecks that are connected across blocks."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bsrbench.harness.method import PAPER_DEPTH, Kind, Method
from bsrbench.harness.model.vit import (
    RunsBlocks,
    blocks,
    head,
    require_blocks,
    require_class_token,
    width,
)
from bsrbench.methods.parts.extend_module import extend
from bsrbench.methods.parts.frozen_embedding import embedded
from bsrbench.methods.parts.new_modules import place
from bsrbench.methods.parts.option_checks import check_blocks, check_share
from bsrbench.methods.parts.token_dropping import DropsTokens, KeepRate, drop_in, tokens_passed_on
from bsrbench.methods.parts.trained_parameters import require_all_train, train_only

DROP_AT = (3, 6, 9)
WIDE, NARROW = 64, 32  # inner widths of a bottleneck; the official code


@dataclass(frozen=True)
class SparseTuning(Method):
    """Train a dense adapter beside each MLP, and the head; drop tokens as in ``evit``.

    A dense adapter is a bottleneck with two inner widths, 64 and 32. Its input is that of the norm
    before the MLP, and its output is added to that of the block. The outputs of the adapters
    between two droppings are also summed, and the sum is added once more to the tokens at the end
    of this group of blocks. The first sum contains the embedded tokens, too, and the last one does
    not contain the adapter of the last block: both as in the official code.

    Stores the inner activations of each adapter, 256 numbers per token, and what the gradient
    needs to reach the second block, as in ``bias``; the input of an adapter is among that, except
    in the first block. Approximates nothing in the backward pass, but the model computes a
    different function, because it drops tokens and adds the embedded tokens again. Does not save
    the backward pass through all blocks but the first. In the last block only the class token has a
    gradient: ``sparse_tuning+sparse`` trains the adapter there only if some activations of this
    token are among the largest, and with random weights none are.

    As in the official code, down-projections are drawn as torch's Linear layers are, the two
    matrices that lead up start at 0, as do all biases, and LayerScale and stochastic depth do not
    act on the adapter. For another ``drop_at`` than the code's, groups begin where tokens are
    dropped, which is our choice. The official schedule of the keep rate and the moving average of
    the weights are not implemented.

    Attributes:
        drop_at: blocks that drop tokens; the official code: (3, 6, 9) of 12.
        keep_rate: share of the tokens kept, in (0, 1], rounded up; the official code: 0.7.
        fuse: sum the dropped tokens into one extra token; the official code has both variants.
    """

    drop_at: tuple[int, ...] = DROP_AT
    keep_rate: float = 0.7
    fuse: bool = False

    source = "Liu et al. 2024 (Sparse-Tuning), arXiv:2405.14700; official code 550cc00"
    exact_forward = False
    kinds: ClassVar = frozenset({Kind.SELECTS_WEIGHTS, Kind.DROPS_TOKENS})

    def __post_init__(self) -> None:
        check_blocks("drop_at", self.drop_at)
        check_share("keep_rate", self.keep_rate)
        if 0 in self.drop_at:
            raise ValueError(
                f"drop_at {self.drop_at} names block 0, but the embedded tokens are added again "
                "after the first group, so it cannot drop any"
            )

    def prepare(self, model: nn.Module) -> nn.Module:
        """Freeze everything except the head; add connected adapters; make blocks drop tokens."""
        require_class_token(model)
        require_blocks(model, "drop_at", self.drop_at, DROP_AT)
        require_all_train(model)
        train_only(model, [head(model)])
        chain = blocks(model)
        for block in chain:
            extend(block, Adapted, inside=True, dense=DenseAdapter(width(model), place(model)))
        drop_in(model, self.drop_at, KeepRate(self.keep_rate), fuse=self.fuse)
        extend(model, ConnectsGroups, ends=_ends(self.drop_at, len(chain)))
        return model

    def tokens(self, entering: int, depth: int = PAPER_DEPTH) -> tuple[int, ...]:
        """Return the number of tokens in the output of each block."""
        return tokens_passed_on(entering, depth, self.drop_at, self.keep_rate, fuse=self.fuse)

    def added_macs(self, tokens: tuple[int, ...], width: int) -> int:
        """Return the multiply-adds of the five matrices of each adapter, for all tokens."""
        inside = 2 * WIDE * NARROW + (WIDE + NARROW) * WIDE
        return sum(tokens) * (2 * width * WIDE + inside)


def _ends(drop_at: tuple[int, ...], depth: int) -> frozenset[int]:
    """Return the last block of each group: the one before a dropping, and the last of all."""
    return frozenset(index - 1 for index in drop_at if index < depth - 1) | {depth - 1}


class DenseAdapter(nn.Module):
    """A bottleneck with two inner widths."""

    def __init__(self, dim: int, where: dict[str, Any]) -> None:
        super().__init__()
        self.down = nn.Linear(dim, WIDE, **where)
        self.further = nn.Linear(WIDE, NARROW, **where)
        self.back = nn.Linear(NARROW, WIDE, **where)
        self.join = nn.Linear(WIDE + NARROW, WIDE, **where)
        self.up = nn.Linear(WIDE, dim, **where)
        for layer in (self.back, self.up):
            nn.init.zeros_(layer.weight)
        for layer in (self.down, self.further, self.back, self.join, self.up):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        wide = self.down(x).relu()
        narrow = self.further(wide)
        joined = self.join(torch.cat([narrow, self.back(narrow)], dim=2)) + wide
        output: Tensor = self.up(joined)
        return output


class Adapted(nn.Module):
    """A block with a dense adapter beside its MLP."""

    dense: DenseAdapter

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the block's output for x [batch, tokens, dim], and the output of the adapter.

        Both are [batch, tokens, dim], or have fewer tokens if the block drops some.
        """
        block: Any = self
        if isinstance(block, DropsTokens):
            x, _ = block.attended(x)
        else:
            x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x))))
        found = self.dense(x)
        return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x)))) + found, found


class ConnectsGroups(RunsBlocks):
    """A vision transformer that adds the adapters' outputs again after each group of blocks."""

    ends: frozenset[int]

    def forward_features(self, images: Tensor, **_: object) -> Tensor:
        """Return the normalised tokens after the last block, [batch, tokens, dim]."""
        vit: Any = self
        x = embedded(vit, images)
        summed: Tensor | None = x
        last = len(vit.blocks) - 1
        for index, block in enumerate(vit.blocks):
            x, found = block(x)
            if index < last:
                summed = found if summed is None else summed + found
            if index in self.ends and summed is not None:
                x, summed = x + summed, None
        features: Tensor = vit.norm(x)
        return features
