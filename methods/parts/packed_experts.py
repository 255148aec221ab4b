"""A mixture of experts that stores packed copies of its input (once) and of GELU's input."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F

from bsrbench.harness.model.experts import lowered
from bsrbench.harness.model.grouped_products import (
    add_biases,
    add_weights,
    by_expert,
    gathered,
    rows_of,
    scatter_rows,
)
from bsrbench.methods.parts.packed_operators import PRODUCT_BYTES, Codec, gelu_backward


class KeepsLittle(nn.Module):
    """A mixture of experts with one backward pass for GELU, second layer, weighting and sum.

    The gradient of a row's routing weight is the inner product of two vectors: the gradient of its
    token and the output of its expert. We compute it before the second layer: as the inner product
    of GELU's output and the token's gradient, propagated back through the layer, plus a term for
    the bias. So the outputs of the experts need not be stored.
    """

    inputs: Codec
    hidden: Codec
    form: str

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        mlp: Any = self
        trains = x.requires_grad or any(part.requires_grad for part in mlp.parameters())
        if not (torch.is_grad_enabled() and trains):
            output: Tensor = super().forward(x)
            return output
        route = mlp.route(x)
        first, second = mlp.fc1, mlp.fc2
        where = route.ends, route.token
        hidden = _First.apply(x, first.weight, first.bias, *where, self.inputs)
        tokens = x.shape[0] * x.shape[1]
        kept = self.hidden, self.form
        mixed = _Second.apply(
            hidden, route.weight, second.weight, second.bias, *where, tokens, *kept
        )
        whole: Tensor = mixed.view(x.shape)
        return whole


class _First(Function):
    """The first layer; its input is packed once, for any number of experts per token."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        ends: Tensor,
        token: Tensor,
        codec: Codec,
    ) -> Tensor:
        kept = codec(x) if ctx.needs_input_grad[1] else None
        ctx.restore = kept.restore if kept else None
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.save_for_backward(weight, ends, token, *(kept.tensors if kept else ()))
        return by_expert(gathered(lowered(x), token), weight, bias, ends)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        weight, ends, token, *kept = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        of_x = of_weight = of_bias = None
        if needs_weight:
            of_weight = torch.zeros_like(weight)
            x = ctx.restore(kept, slice(None))
            add_weights(of_weight, gradient, gathered(x, token), ends)
            del x
        if needs_bias:
            of_bias = add_biases(gradient, ends, weight)
        if needs_x:
            of_rows = by_expert(gradient, weight.transpose(1, 2), None, ends)
            of_x = scatter_rows(of_rows, token, ctx.shape[:2].numel()).view(ctx.shape)
            of_x = of_x.to(ctx.dtype)
        return of_x, of_weight, of_bias, None, None, None


class _Second(Function):
    """GELU, the second layer, weighting, and the sum over the experts of each token."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        shares: Tensor,
        weight: Tensor,
        bias: Tensor,
        ends: Tensor,
        token: Tensor,
        tokens: int,
        codec: Codec,
        form: str,
    ) -> Tensor:
        kept = codec(hidden)
        ctx.restore, ctx.dtype, ctx.form = kept.restore, hidden.dtype, form
        ctx.save_for_backward(shares, weight, bias, ends, token, *kept.tensors)
        rows = by_expert(F.gelu(hidden, approximate=form), weight, bias, ends)
        return scatter_rows(rows * shares.unsqueeze(1), token, tokens)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        shares, weight, bias, ends, token, *kept = ctx.saved_tensors
        needs_hidden, needs_shares, needs_weight, needs_bias = ctx.needs_input_grad[:4]
        of_hidden = gradient.new_empty(len(token), weight.shape[2], dtype=ctx.dtype)
        of_shares, of_bias = torch.empty_like(shares), torch.zeros_like(bias)
        of_weight = torch.zeros_like(weight) if needs_weight else None
        for some in _some_rows(len(token), weight.shape[2]):
            own, share = _within(ends, some), shares[some].unsqueeze(1)
            expert = rows_of(own, some.stop - some.start)
            of_rows = gradient.index_select(0, token[some]).to(ctx.dtype)
            hidden = ctx.restore(kept, some).to(ctx.dtype)
            output = F.gelu(hidden, approximate=ctx.form)
            back = by_expert(of_rows, weight.transpose(1, 2), None, own)
            beside = (of_rows * bias.index_select(0, expert)).sum(1)
            of_shares[some] = (back * output).sum(1) + beside
            of_rows = (of_rows * share).to(ctx.dtype)
            if of_weight is not None:
                add_weights(of_weight, of_rows, output, own)
            of_bias.index_add_(0, expert, of_rows.to(bias.dtype))
            del of_rows, output
            gelu_backward((back * share).to(ctx.dtype), hidden, of_hidden[some], ctx.form)
        return (
            of_hidden if needs_hidden else None,
            of_shares if needs_shares else None,
            of_weight,
            of_bias if needs_bias else None,
            *(None,) * 5,
        )


def _some_rows(rows: int, width: int) -> Iterator[slice]:
    """Yield slices of rows of a few megabytes; one slice can have rows of several experts."""
    size = max(1, PRODUCT_BYTES // (4 * width))
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def _within(ends: Tensor, some: slice) -> Tensor:
    """Return the end of each expert's rows, counted within the slice ``some`` of all rows."""
    own: Tensor = (ends - some.start).clamp(0, some.stop - some.start)
    return own
