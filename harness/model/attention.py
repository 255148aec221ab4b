"""timm's attention, split into parts that a method can replace."""

from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

# True while CPU tensors take the place of CUDA tensors, in a prediction. Code that works in another
# way on a CPU must then work as on a GPU.
STANDS_FOR_CUDA: ContextVar[bool] = ContextVar("stands_for_cuda", default=False)


def queries_keys_values(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split qkv [batch, tokens, 3 dim] into q, k, v, each [batch, heads, tokens, head dim]."""
    parts = qkv.unflatten(2, (3, attention.num_heads, attention.head_dim))
    q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
    return attention.q_norm(q), attention.k_norm(k), v


def attention_matrix(attention: Any, q: Tensor, k: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return the attention matrix, softmax(q k^T / sqrt(head dim) + bias).

    Fused attention never stores this matrix as a whole.

    Returns:
        [batch, heads, tokens, tokens].
    """
    scores: Tensor = (q * attention.scale) @ k.transpose(-2, -1)
    return (scores if bias is None else scores + bias).softmax(-1)


class Mixes(nn.Module):
    """An attention module with the method's own way to mix the values.

    Use it as a base class before timm's ``Attention``. ``attend`` calls ``mix``.
    """

    def mix(
        self,
        qkv: Tensor,  # noqa: ARG002 - for subclasses that override this method
        *,
        ranked: bool,  # noqa: ARG002
        bias: Tensor | None = None,  # noqa: ARG002
    ) -> tuple[Tensor, Tensor | None] | None:
        """Mix the values of qkv [batch, tokens, 3 dim]; subclasses override this method.

        ``bias`` [batch, 1, 1, tokens] is added to the scores of each key and has no gradient. It
        is never used together with ``ranked``.

        Returns:
            Mixed values [batch, tokens, dim], and with ``ranked`` the result of
            ``class_attention``. ``None``: the caller mixes the values with the function ``mix``.
        """
        return None

    def forward(self, x: Tensor, **_: object) -> Tensor:
        """Apply self-attention to x [batch, tokens, dim]."""
        return attend(self, x)[0]


def attend(
    attention: Any, tokens: Tensor, *, ranked: bool = False, exact: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Apply self-attention to tokens [batch, tokens, dim], as timm's ``Attention`` does.

    Args:
        attention: timm's module.
        tokens: input of the module.
        ranked: also return the result of ``class_attention``.
        exact: compute the whole attention matrix instead of using torch's fused attention.
    """
    qkv = attention.qkv(tokens)
    own = attention.mix(qkv, ranked=ranked) if isinstance(attention, Mixes) else None
    mixed, row = own or mix(attention, qkv, ranked=ranked, exact=exact)
    return _project(attention, mixed), row


def attend_with_keys(
    attention: Any, tokens: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Apply self-attention to tokens [batch, tokens, dim]; also return the keys.

    Args:
        attention: timm's module.
        tokens: input of the module.
        bias: [batch, tokens], added to the scores of each token as a key; has no gradient.

    Returns:
        The output tokens [batch, tokens, dim], and the mean of the keys over heads,
        [batch, tokens, head dim], without gradient.
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
    """Mix the values of qkv [batch, tokens, 3 dim] as timm's ``Attention`` does.

    See ``attend`` for ``ranked`` and ``exact``, and ``Mixes.mix`` for ``bias``.

    Returns:
        Mixed values [batch, tokens, dim], and with ``ranked`` the result of ``class_attention``.
    """
    q, k, v = queries_keys_values(attention, qkv)
    drop = attention.attn_drop
    # Fused attention applies dropout itself. Any other module in the place of the dropout needs
    # the whole matrix. The types are in a tuple because torch 2.9 cannot compile a union of types.
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

    If the attention ``matrix`` is given, its first row is read. Otherwise only this row is
    computed. The product is element-wise, because a batched matrix product would first copy all
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
