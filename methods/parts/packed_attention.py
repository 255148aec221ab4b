"""Attention, fused and explicit, that stores packed copies for its backward pass."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.attention import STANDS_FOR_CUDA
from bsrbench.harness.torch_internals.eager_internals import (
    CPU_ATTENTION,
    CPU_ATTENTION_BACKWARD,
    CUDA_ATTENTION,
    CUDA_ATTENTION_BACKWARD,
    SOFTMAX_BACKWARD,
)
from bsrbench.methods.parts.packed_operators import Codec, chunks

ATTENTION_BYTES = 2 << 20  # unpacked at a time; the backward pass has several such tensors
# Of an explicit softmax. In the cache, its five products are faster than seven fused ones.
MATRIX_BYTES = 1 << 20


def attention(
    qkv: Tensor,
    heads: int,
    factor: float,
    *,
    ranked: bool,
    inputs: Codec,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Compute fused attention; store a packed copy of q, k and v.

    The backward pass of fused attention also reads the output and the logarithm of the softmax's
    sum of each row. These values come from the exact q and k and do not match the copies. With them
    the rows of the recomputed softmax would not add up to 1, and gradients of sharp attention would
    be very wrong. So the backward pass recomputes the softmax from the copies: explicitly on a CPU
    if the matrix of an image is small, otherwise fused.

    Args:
        qkv: output of the qkv layer, [batch, tokens, 3 dim].
        heads: number of heads.
        factor: factor of the products of queries and keys.
        ranked: also return the attention of the class token.
        inputs: codec of ``qkv``.
        bias: [batch, 1, 1, tokens], added to the scores of each key. It gets no gradient. It cannot
            be combined with ``ranked``.

    Returns:
        The output of attention [batch, tokens, dim]; and the attention weights of the class token
        for the other tokens, mean over heads, [batch, tokens - 1] in fp32 or fp64, or ``None``.
    """
    mixed, row = _Attention.apply(qkv, heads, factor, ranked, inputs, bias)
    return mixed, row


class _Attention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        heads: int,
        factor: float,
        ranked: bool,
        inputs: Codec,
        bias: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        q, k, v = split(qkv, heads)
        mixed, _ = _fused(q, k, v, factor, bias)
        joined = mixed.transpose(1, 2).flatten(2)
        row, rows = _class_rows(q, k, factor) if ranked else (None, None)
        kept = inputs(qkv)
        ctx.heads, ctx.factor, ctx.restore = heads, factor, kept.restore
        ctx.shape, ctx.dtype = qkv.shape, qkv.dtype
        ctx.save_for_backward(rows, bias, *kept.tensors)
        return joined, row

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        of_mixed, of_row = outputs
        rows, bias, *kept = ctx.saved_tensors
        of_qkv = kept[0].new_empty(ctx.shape, dtype=ctx.dtype)
        explicit = _is_small(kept[0], ctx.heads, ctx.shape[1], ctx.dtype)
        matrix = ctx.heads * ctx.shape[1], MATRIX_BYTES
        slices = chunks(of_qkv, *(matrix if explicit else (ctx.shape[2], ATTENTION_BYTES)))
        backward = _explicit_backward if explicit else _recomputed_backward
        for images in slices:
            qkv = ctx.restore(kept, images)
            q, k, v = split(qkv, ctx.heads)
            some = of_qkv[images]
            if of_mixed is not None:
                added = None if bias is None else bias[images]
                gradient = by_head(of_mixed[images].to(q.dtype), ctx.heads)
                gradients = backward(gradient, q, k, v, ctx.factor, added)
                for target, value in zip(split(some, ctx.heads), gradients, strict=True):
                    target.copy_(value.view(target.shape))
                del gradients
            else:
                some.zero_()
            if of_row is not None:
                _add_row_gradient(some, q, k, rows[images], of_row[images], ctx.factor)
        return of_qkv, None, None, None, None, None


def explicit_attention(
    qkv: Tensor,
    heads: int,
    factor: float,
    *,
    ranked: bool,
    inputs: Codec,
    matrix: Codec,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Compute attention with an explicit softmax; store packed copies of q, k, v and the softmax.

    Arguments and results are as in ``attention``. ``matrix`` is the codec of the softmax's output
    [batch, heads, tokens, tokens].
    """
    mixed, row = _ExplicitAttention.apply(qkv, heads, factor, ranked, inputs, matrix, bias)
    return mixed, row


class _ExplicitAttention(Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        heads: int,
        factor: float,
        ranked: bool,
        inputs: Codec,
        matrix: Codec,
        bias: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        ctx.set_materialize_grads(False)
        q, k, v = split(qkv, heads)
        scores = (q @ k.transpose(-2, -1)).mul_(factor)
        weights = (scores if bias is None else scores.add_(bias)).softmax(-1)
        del scores
        joined = (weights @ v).transpose(1, 2).flatten(2)
        exact = torch.promote_types(qkv.dtype, torch.float32)
        row = weights[:, :, 0, 1:].to(exact).mean(1) if ranked else None
        of_qkv, of_weights = inputs(qkv), matrix(weights)
        ctx.heads, ctx.factor, ctx.count = heads, factor, len(of_qkv.tensors)
        ctx.shape, ctx.dtype = qkv.shape, qkv.dtype
        ctx.restore_qkv, ctx.restore_weights = of_qkv.restore, of_weights.restore
        ctx.save_for_backward(*of_qkv.tensors, *of_weights.tensors)
        return joined, row

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        of_mixed, of_row = outputs
        kept = ctx.saved_tensors
        of_qkv = kept[0].new_empty(ctx.shape, dtype=ctx.dtype)
        # The softmax has ``tokens`` numbers per token and head.
        for images in chunks(of_qkv, ctx.shape[2] + ctx.heads * ctx.shape[1], ATTENTION_BYTES):
            qkv = ctx.restore_qkv(kept[: ctx.count], images)
            weights = ctx.restore_weights(kept[ctx.count :], images).to(qkv.dtype)
            q, k, v = split(qkv, ctx.heads)
            of_q, of_k, of_v = split(of_qkv[images], ctx.heads)
            if of_mixed is not None:
                some = by_head(of_mixed[images].to(qkv.dtype), ctx.heads)
                of_v.copy_(weights.transpose(-2, -1) @ some)
                of_weights = some @ v.transpose(-2, -1)
            else:
                of_v.zero_()
                of_weights = torch.zeros_like(weights)
            if of_row is not None:
                of_weights[:, :, 0, 1:] += of_row[images].unsqueeze(1) / ctx.heads
            of_scores = SOFTMAX_BACKWARD(of_weights, weights, -1, qkv.dtype)
            of_scores.mul_(ctx.factor)
            of_q.copy_(of_scores @ k)
            of_k.copy_(of_scores.transpose(-2, -1) @ q)
        return of_qkv, None, None, None, None, None, None


def by_head(x: Tensor, heads: int) -> Tensor:
    """Return a view of x [batch, tokens, dim] as [batch, heads, tokens, head dim]."""
    view: Tensor = x.unflatten(2, (heads, -1)).transpose(1, 2)
    return view


def split(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return views of q, k and v, each [batch, heads, tokens, head dim]."""
    q, k, v = qkv.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _class_rows(q: Tensor, k: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return the class token's attention: mean over heads without itself, and complete per head."""
    exact = torch.promote_types(q.dtype, torch.float32)
    rows = ((q[:, :, :1] * k).sum(-1) * factor).softmax(-1, dtype=exact)
    return rows[:, :, 1:].mean(1), rows


def _add_row_gradient(
    part: Tensor, q: Tensor, k: Tensor, rows: Tensor, of_row: Tensor, factor: float
) -> None:
    """Add the gradient that comes from the class token's attention to the gradient of qkv."""
    of_rows = F.pad(of_row.unsqueeze(1) / q.shape[1], (1, 0))
    of_scores = rows * (of_rows - (of_rows * rows).sum(-1, keepdim=True)) * factor
    of_scores = of_scores.unsqueeze(-1).to(q.dtype)
    of_q, of_k, _ = split(part, q.shape[1])
    of_q[:, :, 0] += (of_scores * k).sum(2)
    of_k += of_scores * q[:, :, :1]


def _is_small(x: Tensor, heads: int, tokens: int, dtype: torch.dtype) -> bool:
    """Tell whether the backward pass computes the softmax explicitly instead of fused."""
    if x.device.type != "cpu" or STANDS_FOR_CUDA.get():
        return False
    exact = dtype in {torch.float32, torch.float64}
    return exact and 4 * heads * tokens**2 <= ATTENTION_BYTES


def _explicit_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, factor: float, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, each [images * heads, tokens, head dim]."""
    shape = (*q.shape[:3], k.shape[2])
    # Of one image these are views, which products read without a copy.
    gradient, q, k, v = (x.flatten(0, 1) for x in (gradient, q, k, v))
    # alpha costs no pass over the product; with beta 0 the first tensor is not read
    scaled = partial(torch.baddbmm, q.new_empty(1), beta=0, alpha=factor)
    weights = scaled(q, k.mT)
    if bias is not None:
        weights.view(shape).add_(bias)
    weights = weights.softmax(-1)
    of_v = weights.mT @ gradient
    of_weights = gradient @ v.mT
    of_scores = SOFTMAX_BACKWARD(of_weights, weights, -1, q.dtype)
    del of_weights, weights
    return scaled(of_scores, k), scaled(of_scores.mT, q), of_v


def _recomputed_backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, factor: float, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v, each [images, heads, tokens, head dim]."""
    mixed, sums = _fused(q, k, v, factor, bias)
    return _fused_backward(gradient, q, k, v, mixed, sums, factor, bias)


def _fused(
    q: Tensor, k: Tensor, v: Tensor, factor: float, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the output of the device's fused kernel and the log of each row's softmax sum."""
    if q.device.type == "cpu":
        mixed, sums = CPU_ATTENTION(q, k, v, attn_mask=bias, scale=factor)
        return mixed, sums
    if q.device.type == "cuda" and bias is not None:
        raise Unsupported(
            "packed fused attention on cuda does not support a bias of the attention scores"
        )
    if q.device.type == "cuda":
        mixed, sums, *_ = CUDA_ATTENTION(q, k, v, None, compute_log_sumexp=True, scale=factor)
        return mixed, sums
    raise Unsupported(
        f"packed fused attention does not support {q.device.type}, because its backward pass "
        "cannot read packed copies there; compute the attention explicitly instead"
    )


def _fused_backward(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mixed: Tensor,
    sums: Tensor,
    factor: float,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    if q.device.type == "cpu":
        of_q, of_k, of_v = CPU_ATTENTION_BACKWARD(
            gradient, q, k, v, mixed, sums, 0.0, False, attn_mask=bias, scale=factor
        )
        return of_q, of_k, of_v
    unused = torch.zeros((), dtype=torch.int64, device=q.device)  # the state of dropout
    of_q, of_k, of_v, _ = CUDA_ATTENTION_BACKWARD(
        gradient,
        q,
        k,
        v,
        None,
        mixed,
        sums,
        unused,
        unused,
        0.0,
        [True] * 3 + [False],
        scale=factor,
    )
    return of_q, of_k, of_v
