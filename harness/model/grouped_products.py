"""Matrix products of rows that are grouped by expert, as custom torch operators.

The meters see these operators, and the operators also run over fake tensors. torch 2.14 has
``grouped_mm``, but not for fp64, and over tensors without values not for fp32.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "bsrbench"


def by_expert(rows: Tensor, weight: Tensor, bias: Tensor | None, ends: Tensor) -> Tensor:
    """Return the product of each row and its expert's weight, plus the bias: [rows, out].

    Args:
        rows: [rows, in]; sorted by expert.
        weight: [experts, out, in]; converted to the dtype of the rows.
        bias: [experts, out]; converted in the same way.
        ends: index after the last row of each expert, [experts].
    """
    cast = None if bias is None else bias.to(rows.dtype)
    output: Tensor = EXPERT_ROWS(rows, weight.to(rows.dtype), cast, ends)
    return output


def add_weights(total: Tensor, gradient: Tensor, rows: Tensor, ends: Tensor) -> None:
    """Add the gradient of the weights of ``by_expert`` to ``total``.

    Args:
        total: [experts, out, in]; changed in place.
        gradient: gradient of the output of ``by_expert``, [rows, out].
        rows: input of ``by_expert``, [rows, in].
        ends: index after the last row of each expert, [experts].
    """
    ADD_EXPERT_WEIGHTS(total, gradient, rows.to(gradient.dtype), ends)


def add_biases(gradient: Tensor, ends: Tensor, like: Tensor) -> Tensor:
    """Return the gradient of the biases of ``by_expert``, [experts, out], in like's dtype."""
    expert = rows_of(ends, gradient.shape[0])
    total = like.new_zeros(ends.shape[0], gradient.shape[1])
    return total.index_add_(0, expert, gradient.to(like.dtype))


def rows_of(ends: Tensor, rows: int) -> Tensor:
    """Return the index of the expert of each row, [rows]."""
    return torch.searchsorted(ends, torch.arange(rows, device=ends.device), right=True)


def gathered(x: Tensor, token: Tensor) -> Tensor:
    """Return for each row its token of x [batch, tokens, dim]: [rows, dim]."""
    return x.flatten(0, 1).index_select(0, token)


def scatter_rows(rows: Tensor, token: Tensor, tokens: int) -> Tensor:
    """Return for each token the sum of its rows [rows, dim]: [tokens, dim]."""
    return rows.new_zeros(tokens, rows.shape[1]).index_add(0, token, rows)


def _groups(ends: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield the index and the rows of each expert that has rows."""
    first = 0
    for expert, end in enumerate(ends.tolist()):
        if end > first:
            yield expert, slice(first, end)
        first = max(first, end)


def _expert_rows(rows: Tensor, weight: Tensor, bias: Tensor | None, ends: Tensor) -> Tensor:
    output = rows.new_empty(rows.shape[0], weight.shape[1])
    for expert, own in _groups(ends):
        if bias is None:
            torch.mm(rows[own], weight[expert].T, out=output[own])
        else:
            torch.addmm(bias[expert], rows[own], weight[expert].T, out=output[own])
    return output


def _add_expert_weights(total: Tensor, gradient: Tensor, rows: Tensor, ends: Tensor) -> None:
    for expert, own in _groups(ends):
        product = total[expert]
        if total.dtype == gradient.dtype:
            product.addmm_(gradient[own].T, rows[own])
        else:
            product.add_(gradient[own].T @ rows[own])


def _define(schema: str, run: Any, fake: Any) -> Any:
    """Define a custom torch operator and return its overload packet."""
    name, _, _ = schema.partition("(")
    place = f"{NAMESPACE}::{name}"
    torch.library.define(place, schema.removeprefix(name))
    torch.library.impl(place, "default", run)
    torch.library.register_fake(place, fake)
    return getattr(getattr(torch.ops, NAMESPACE), name)


def _fake_rows(rows: Tensor, weight: Tensor, *_: object) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1])


EXPERT_ROWS = _define(
    "expert_rows(Tensor rows, Tensor weight, Tensor? bias, Tensor ends) -> Tensor",
    _expert_rows,
    _fake_rows,
)
ADD_EXPERT_WEIGHTS = _define(
    "add_expert_weights(Tensor(a!) total, Tensor gradient, Tensor rows, Tensor ends) -> ()",
    _add_expert_weights,
    lambda *_: None,
)
