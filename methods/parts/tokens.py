"""Drop tokens by the class token's attention, and count what is left."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from harness.vit import attend, class_attention, queries_keys_values


def kept_tokens(count: int, keep_rate: float) -> int:
    """Return how many of ``count`` tokens without the class token are kept."""
    return min(count, math.ceil(keep_rate * count))


def tokens_after(count: int, keep_rate: float, *, fuse: bool) -> int:
    """Return the tokens left of ``count`` (class token included) after one dropping."""
    kept = kept_tokens(count - 1, keep_rate)
    return count if kept == count - 1 else 1 + kept + fuse


class DropsTokens(nn.Module):
    """A timm block that drops tokens between its attention and its MLP (EViT, section 3).

    The others are ranked by the class token's attention in this block, mean over heads. Dropped
    tokens are summed, weighted by that attention as it is, into one extra token at the end. The
    choice carries no gradient; the kept tokens and the weights do.
    """

    keep_rate: float
    fuse: bool

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, fewer tokens, dim]."""
        block: Any = self  # its parts are those of timm's Block
        q, k, v = queries_keys_values(block.attn, block.norm1(x))
        x = x + block.drop_path1(block.ls1(attend(block.attn, q, k, v)))
        if kept_tokens(x.shape[1] - 1, self.keep_rate) < x.shape[1] - 1:
            x = drop(x, class_attention(block.attn, q, k), self.keep_rate, fuse=self.fuse)
        output: Tensor = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
        return output


def drop(x: Tensor, attention: Tensor, keep_rate: float, *, fuse: bool) -> Tensor:
    """Keep the class token and the tokens it attends to most.

    Args:
        x: [batch, tokens, dim], the class token first.
        attention: [batch, tokens - 1], what ranks and weighs the others.
        keep_rate: share kept, rounded up.
        fuse: add the attention-weighted sum of the dropped tokens as a last token.
    """
    order = attention.detach().argsort(dim=1, descending=True)
    kept, dropped = order.tensor_split([kept_tokens(order.shape[1], keep_rate)], dim=1)
    parts = [x[:, :1], _take(x, kept)]
    if fuse:
        weights = attention.gather(1, dropped).to(x.dtype).unsqueeze(1)
        parts.append(weights @ _take(x, dropped))
    return torch.cat([part.to(x.dtype) for part in parts], dim=1)


def _take(x: Tensor, indices: Tensor) -> Tensor:
    """Gather the tokens at ``indices`` [batch, n], which count from after the class token."""
    return x.gather(1, (indices + 1).unsqueeze(-1).expand(-1, -1, x.shape[-1]))
