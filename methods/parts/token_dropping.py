"""Drop tokens by the attention of the class token, and count the remaining tokens."""

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
    """The share of tokens kept; it can fall during training, as in EViT's official code.

    It is 1.0 for the first ``start`` optimizer steps. In the next ``steps`` optimizer steps it
    falls along half a cosine to ``final``. Then it stays there. If ``start`` and ``steps`` are 0,
    it is always ``final``.
    """

    final: float
    start: int = 0
    steps: int = 0
    done: int = 0

    def now(self) -> float:
        """Return the current share."""
        if self.done < self.start:
            return 1.0
        if self.done >= self.start + self.steps:
            return self.final
        share = (self.done - self.start) / self.steps
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * share)) / 2


def kept_tokens(count: int, keep_rate: float) -> int:
    """Return how many of ``count`` tokens are kept; ``count`` excludes the class token."""
    return min(count, math.ceil(keep_rate * count))


def tokens_after(count: int, keep_rate: float, *, fuse: bool) -> int:
    """Return how many of ``count`` tokens remain after one dropping, class token included."""
    kept = kept_tokens(count - 1, keep_rate)
    return count if kept == count - 1 else 1 + kept + fuse


def tokens_passed_on(
    entering: int, depth: int, drop_at: tuple[int, ...], keep_rate: float, *, fuse: bool
) -> tuple[int, ...]:
    """Return the number of tokens in the output of each block; the last block never drops any."""
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
    """Make blocks of a model drop tokens. The last block never drops any, even if it is named.

    Raises:
        Unsupported: a block already changes the number of tokens.
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
    """A block whose output can have another number of tokens than its input."""


def require_all_tokens(model: nn.Module) -> None:
    """Check that no block changes the number of tokens.

    Raises:
        Unsupported: a block drops or merges tokens, because of another method or an earlier call.
    """
    if any(isinstance(block, ChangesTokens) for block in blocks(model)):
        raise Unsupported(
            "the model is already prepared: it has blocks that drop tokens or merge them"
        )


class DropsTokens(ChangesTokens):
    """A timm block that drops tokens between its attention and its MLP (EViT, section 3).

    The tokens are ranked by the class token's attention to them in this block, mean over heads.
    With ``fuse``, the dropped tokens are summed into one extra token at the end. The weights of the
    sum are this attention, without normalisation. The choice of tokens has no gradient; the kept
    tokens and the weights have gradients.
    """

    keep_rate: KeepRate
    fuse: bool
    exact_attention: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, fewer tokens, dim]."""
        return self.choose(x)[0]

    def choose(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Map x as ``forward`` does; also return a function that drops the same tokens of a tensor.

        Both map [batch, tokens, dim] to [batch, fewer tokens, dim].
        """
        block: Any = self  # it has the submodules of timm's Block
        x, same = self.attended(x)
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output, same

    def attended(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the input of the MLP's norm, and a function as ``choose`` does.

        Both map [batch, tokens, dim] to [batch, fewer tokens, dim].
        """
        block: Any = self
        kept = kept_tokens(x.shape[1] - 1, self.keep_rate.now())
        drops = kept < x.shape[1] - 1
        attended, ranking = attend(
            block.attn, block.norm1(x), ranked=drops, exact=self.exact_attention
        )
        x = x + block.drop_path1(block.ls1(attended))
        same = _all
        if ranking is not None:
            same = partial(drop, attention=ranking, kept=kept, fuse=self.fuse)
        return same(x), same


def _all(x: Tensor) -> Tensor:
    return x


def drop(x: Tensor, attention: Tensor, kept: int, *, fuse: bool) -> Tensor:
    """Keep the class token and the ``kept`` tokens to which it attends most.

    Among tokens with equal attention, the first are kept. For the backward pass autograd saves
    indices and, with ``fuse``, the dropped tokens.

    Args:
        x: [batch, tokens, dim]; the class token is first.
        attention: [batch, tokens - 1], the class token's attention to the other tokens.
        kept: number of other tokens to keep.
        fuse: append the sum of the dropped tokens, weighted by ``attention``, as the last token.
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

    The tokens of all images are the rows of one table. Copying complete rows of it is several times
    faster than a gather along the middle dimension, in the forward and in the backward pass.
    """
    first = torch.arange(x.shape[0], device=x.device).unsqueeze(1) * x.shape[1]
    return F.embedding(first + indices, x.flatten(0, 1))
