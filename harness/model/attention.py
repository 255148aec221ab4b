"""timm's attention, divided into parts that a method can replace."""

from typing import Any

import torch
from torch import Tensor, nn


def queries_keys_values(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split qkv [batch, tokens, 3 dim] into q, k, v, each [batch, heads, tokens, head dim]."""
    parts = qkv.unflatten(2, (3, attention.num_heads, attention.head_dim))
    q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(q), attention.k_norm(k), v


def attention_matrix(attention: Any, q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(head dim) + bias), which fused attention never holds whole.

    Returns:
        [batch, heads, tokens, tokens].
    """
    scores: Tensor = (q * attention.scale) @ k.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1)


class Mixes(nn.Module):
    """An attention module that a method makes mix the values in a way of its own.

    Stands in front of timm's ``Attention``; ``attend`` asks it.
    """

    def mix(
        self,
        qkv: Tensor,  # noqa: ARG002 - for those who override it
        *,
        ranked: bool,  # noqa: ARG002
        bias: Tensor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None] | None:
        """Mix the values of qkv [batch, tokens, 3 dim]; here as ever.

        ``bias`` [batch, 1, 1, tokens] is added to the scores of each key and has no gradient; it
        does not come together with ``ranked``.

        Returns:
            Mixed values [batch, tokens, dim], and with ``ranked`` what ``class_attention``
            returns; ``None`` leaves this call to the plain way.
        """
        return None

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Attend [batch, tokens, dim] to itself."""
        return attend(self, x)[0]


def attend(
    attention: Any, tokens: Tensor, *, ranked: bool = False, exact: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Let tokens [batch, tokens, dim] attend to each other: what timm's ``Attention`` does.

    Args:
        attention: timm's module.
        tokens: its input.
        ranked: return what ``class_attention`` does, too.
        exact: hold the whole attention matrix instead of using torch's fused attention.
    """
    qkv = attention.qkv(tokens)
    own = attention.mix(qkv, ranked=ranked) if isinstance(attention, Mixes) else None
    mixed, row = own or mix(attention, qkv, ranked=ranked, exact=exact)
    return _project(attention, mixed), row


def attend_with_keys(
    attention: Any, tokens: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Let tokens [batch, tokens, dim] attend to each other, and return their keys, too.

    Args:
        attention: timm's module.
        tokens: its input.
        bias: [batch, tokens], added to the scores of each token as a key; has no gradient.

    Returns:
        What ``attend`` returns, and the keys, mean over heads, [batch, tokens, head dim], without
        gradient.
    """
    qkv = attention.qkv(tokens)
    keys = queries_keys_values(attention, qkv.detach())[1].mean(1)
    scores = None if bias is None else bias.detach().to(qkv.dtype)[:, None, None]
    packs = isinstance(attention, Mixes)
    own = attention.mix(qkv, ranked=False, bias=scores) if packs else None
    mixed, _ = own or mix(attention, qkv, ranked=False, exact=False, bias=scores)
    return _project(attention, mixed), keys


def _project(attention: Any, mixed: Tensor) -> Tensor:
    output: Tensor = attention.proj_drop(attention.proj(attention.norm(mixed)))
    return output


def mix(
    attention: Any, qkv: Tensor, *, ranked: bool, exact: bool, bias: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Mix the values of qkv [batch, tokens, 3 dim] the plain way.

    Arguments are those of ``attend``, and the ``bias`` of ``Mixes.mix``.

    Returns:
        Mixed values [batch, tokens, dim], and with ``ranked`` what ``class_attention`` returns.
    """
    q, k, v = queries_keys_values(attention, qkv)
    drop = attention.attn_drop
    # Fused attention drops by itself, and whatever else stands there is given the whole matrix.
    # Types in a tuple: torch 2.9 compiles no union of them.
    if exact or not isinstance(drop, (nn.Dropout, nn.Identity)):
        matrix = attention_matrix(attention, q, k, bias)
        mixed = drop(matrix) @ v
    else:
        matrix = None
        dropped = drop.p if attention.training and isinstance(drop, nn.Dropout) else 0.0
        mixed = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias, dropout_p=dropped
        )
    row = class_attention(attention, q, k, matrix) if ranked else None
    return mixed.transpose(1, 2).flatten(2), row


def class_attention(attention: Any, q: Tensor, k: Tensor, matrix: Tensor | None = None) -> Tensor:
    """Return the class token's softmax attention to the other tokens, mean over heads.

    Read from the ``attention_matrix`` where one is given; else only this one row of it is
    computed. The product is element-wise because a batched matrix product would first copy all
    keys.

    Returns:
        [batch, tokens - 1], in fp32 at least.
    """
    exact = torch.promote_types(q.dtype, torch.float32)
    if matrix is None:
        scores = (q[:, :, :1] * k).sum(-1) * attention.scale
        rows = scores.softmax(-1, dtype=exact)
    else:
        rows = matrix[:, :, 0].to(exact)
    mean: Tensor = rows[:, :, 1:].mean(1)
    return mean
