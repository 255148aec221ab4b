"""Drop tokens by the class token's attention, and count what is left."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.attention import attend
from bsrbench.harness.model.vit import blocks
from bsrbench.methods.parts.extend_module import extend


@dataclass
class KeepRate:
    """The share of tokens kept, which may fall while a model trains (EViT's official code).

    It is 1.0 until ``start`` optimizer steps are done, falls along half a cosine over ``steps``
    more and stays at ``final``. With ``start`` and ``steps`` 0 it is ``final`` from the first.
    """

    final: float
    start: int = 0
    steps: int = 0
    done: int = 0

    def now(self) -> float:
        """Return the share in force."""
        if self.done < self.start:
            return 1.0
        if self.done >= self.start + self.steps:
            return self.final
        share = (self.done - self.start) / self.steps
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


def kept_tokens(count: int, keep_rate: float) -> int:
    """Return how many of ``count`` tokens without the class token are kept."""
    return min(count, math.ceil(keep_rate * count))


def tokens_after(count: int, keep_rate: float, *, fuse: bool) -> int:
    """Return the tokens left of ``count`` (class token included) after one dropping."""
    kept = kept_tokens(count - 1, keep_rate)
    return count if kept == count - 1 else 1 + kept + fuse


def tokens_passed_on(
    entering: int, depth: int, drop_at: tuple[int, ...], keep_rate: float, *, fuse: bool
) -> tuple[int, ...]:
    """Return how many tokens each of ``depth`` blocks passes on; the last never drops."""
    counts = []
    for index in range(depth):
        if index in drop_at and index < depth - 1:
            entering = tokens_after(entering, keep_rate, fuse=fuse)
        counts.append(entering)
    return tuple(counts)


def drop_in(
    model: nn.Module,
    drop_at: tuple[int, ...],
    keep_rate: KeepRate,
    *,
    fuse: bool,
    exact_attention: bool = False,
) -> None:
    """Make blocks of a model drop tokens, all but the last even if it is named.

    Raises:
        Unsupported: some block drops tokens already.
    """
    require_all_tokens(model)
    chain = blocks(model)
    for index in drop_at:
        if index < len(chain) - 1:
            extend(
                chain[index],
                DropsTokens,
                inside=True,
                keep_rate=keep_rate,
                fuse=fuse,
                exact_attention=exact_attention,
            )


class ChangesTokens(nn.Module):
    """A block that passes on another number of tokens than it is given."""


def require_all_tokens(model: nn.Module) -> None:
    """Check that every block passes on the tokens it is given.

    Raises:
        Unsupported: another method, or the same one before, has made some drop or merge tokens.
    """
    if any(isinstance(block, ChangesTokens) for block in blocks(model)):
        raise Unsupported("the model is already prepared: it has blocks that drop tokens")


class DropsTokens(ChangesTokens):
    """A timm block that drops tokens between its attention and its MLP (EViT, section 3).

    The others are ranked by the class token's attention in this block, mean over heads. Dropped
    tokens are summed, weighted by that attention as it is, into one extra token at the end. The
    choice carries no gradient; the kept tokens and the weights do.
    """

    keep_rate: KeepRate
    fuse: bool
    exact_attention: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, fewer tokens, dim]."""
        return self.choose(x)[0]

    def choose(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Map x as ``forward`` does; return also what drops the same tokens of a tensor like x.

        Both are [batch, tokens, dim], and [batch, fewer tokens, dim] afterwards.
        """
        block: Any = self  # its parts are those of timm's Block
        kept = kept_tokens(x.shape[1] - 1, self.keep_rate.now())
        drops = kept < x.shape[1] - 1
        attended, ranking = attend(
            block.attn, block.norm1(x), ranked=drops, exact=self.exact_attention
        )
        x = x + block.drop_path1(block.ls1(attended))
        same = _all
        if ranking is not None:
            same = partial(drop, attention=ranking, kept=kept, fuse=self.fuse)
        x = same(x)
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output, same


def _all(x: Tensor) -> Tensor:
    return x


def drop(x: Tensor, attention: Tensor, kept: int, *, fuse: bool) -> Tensor:
    """Keep the class token and the tokens it attends to most, the first of equals.

    For the backward pass autograd keeps indices and, with ``fuse``, the dropped tokens.

    Args:
        x: [batch, tokens, dim], the class token first.
        attention: [batch, tokens - 1], what ranks and weighs the others.
        kept: how many of the others stay.
        fuse: add the attention-weighted sum of the dropped tokens as a last token.
    """
    order = attention.detach().argsort(dim=1, descending=True, stable=True)
    class_token = order.new_zeros(order.shape[0], 1)
    staying = _take(x, torch.cat([class_token, order[:, :kept] + 1], dim=1))
    if not fuse:
        return staying
    dropped = order[:, kept:]
    weights = attention.gather(1, dropped).to(x.dtype).unsqueeze(1)
    fused = weights @ _take(x, dropped + 1)
    return torch.cat([staying, fused.to(x.dtype)], dim=1)


def _take(x: Tensor, indices: Tensor) -> Tensor:
    """Gather the tokens at ``indices`` [batch, n].

    As rows of a table of all images' tokens: that copies rows whole, which is several times
    faster than a gather along the middle dimension, forward and backward.
    """
    first = torch.arange(x.shape[0], device=x.device).unsqueeze(1) * x.shape[1]
    return F.embedding(first + indices, x.flatten(0, 1))
