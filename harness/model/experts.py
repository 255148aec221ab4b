"""Mixtures of experts that replace MLPs, with one gate per task.

The shape is that of M3ViT's multi-gate experts (NeurIPS 2022), as BSR's official code uses it
(f3a8595, models/moe.py); products are grouped by expert, and nothing loops over samples.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torch.autograd import Function

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.grouped_products import (
    add_biases,
    add_weights,
    by_expert,
    gathered,
    scatter_rows,
)
from bsrbench.harness.model.task_heads import TaskHeads, TaskTurn


@dataclass(frozen=True)
class Route:
    """Which experts tokens go to: a row for each token and expert, the rows of an expert together.

    Attributes:
        ends: where the rows of each expert end, [experts].
        token: of each row, [rows]; tokens of all images are numbered together.
        weight: of each row's output, [rows]; carries the gate's gradient.
    """

    ends: Tensor
    token: Tensor
    weight: Tensor


class Experts(nn.Module):
    """One layer of all experts.

    Args:
        layer: what each begins as a copy of.
        experts: how many.

    Attributes:
        weight: [experts, out, in].
        bias: [experts, out].
    """

    weight: nn.Parameter
    bias: nn.Parameter

    def __init__(self, layer: nn.Linear, experts: int) -> None:
        super().__init__()
        for name, parameter in layer.named_parameters():
            copies = parameter.detach().unsqueeze(0).repeat(experts, *[1] * parameter.dim())
            self.register_parameter(name, nn.Parameter(copies))


class ExpertMlp(nn.Module):
    """A mixture of experts: each token goes to the ``top_k`` experts its task's gate prefers.

    The gate is a linear layer without bias and a softmax over all experts, whose ``top_k`` largest
    values weight the experts' outputs as they are, not made to add up to 1. No noise, and no loss
    that balances experts.

    Args:
        dense: the MLP whose copies the experts are.
        experts: how many.
        top_k: of them, for each token.
        turn: says whose turn it is.
    """

    def __init__(self, dense: Any, experts: int, top_k: int, turn: TaskTurn) -> None:
        super().__init__()
        width = dense.fc1.in_features
        self.gates = nn.ModuleList(_gate(dense.fc1, width, experts) for _ in range(turn.tasks))
        self.fc1, self.fc2 = (Experts(layer, experts) for layer in (dense.fc1, dense.fc2))
        self.act = copy.deepcopy(dense.act)
        self.experts, self.top_k, self.turn = experts, top_k, turn
        self.loads: list[Tensor] | None = None  # of each task, where somebody counts

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, tokens, dim] to [batch, tokens, dim]."""
        route = self.route(x)
        hidden = expert_linear(x, self.fc1, route)
        rows = rows_linear(self.act(hidden), self.fc2, route)
        weighted = rows * route.weight.unsqueeze(1)
        return scatter_rows(weighted, route.token, x.shape[0] * x.shape[1]).view(x.shape)

    def route(self, x: Tensor) -> Route:
        """Choose the experts of every token of x [batch, tokens, dim]."""
        scores = self.gates[self.turn.task](x).flatten(0, 1).softmax(-1)
        weights, chosen = scores.topk(self.top_k, dim=1)
        order = chosen.flatten().argsort(stable=True)
        experts = torch.arange(self.experts, device=x.device)
        ends = torch.searchsorted(chosen.flatten()[order], experts, right=True)
        if self.loads is not None:
            self.loads[self.turn.task] += ends.diff(prepend=ends.new_zeros(1)).cpu()
        token = order.div(self.top_k, rounding_mode="floor")
        return Route(ends, token, weights.flatten().index_select(0, order))


def _gate(like: nn.Linear, width: int, experts: int) -> nn.Linear:
    """Return a gate; its numbers are uniform within 1 / sqrt(experts).

    That is what torch's Kaiming initialisation makes of M3ViT's [dim, experts] matrix; of a Linear
    layer's [experts, dim] it would make 1 / sqrt(dim), and gates that hardly prefer any expert.
    """
    gate = nn.Linear(width, experts, bias=False, device=like.weight.device, dtype=like.weight.dtype)
    nn.init.uniform_(gate.weight, -(experts**-0.5), experts**-0.5)
    return gate


def take_turns(
    model: Any, classes: Iterable[int], blocks: Iterable[int], experts: int, top_k: int
) -> None:
    """Give a timm vision transformer a head for each task, and some blocks experts.

    Args:
        model: with the weights that experts are to start from; changed in place.
        classes: of each task.
        blocks: whose MLP becomes a mixture of experts.
        experts: how many.
        top_k: of them, for each token.

    Raises:
        Unsupported: an MLP has parts that experts do not copy, or the model has two heads.
    """
    if isinstance(model.get_classifier(), tuple):
        raise Unsupported("the model has two heads, and a task is given one")
    heads = []
    for count in classes:
        model.reset_classifier(count)
        heads.append(model.head)
    turn = TaskTurn(len(heads))
    model.head = TaskHeads(heads, turn)
    for index in blocks:
        block = model.blocks[index]
        _require_plain(block.mlp)
        block.mlp = ExpertMlp(block.mlp, experts, top_k, turn)


def _require_plain(mlp: Any) -> None:
    layers = [getattr(mlp, name, None) for name in ("fc1", "fc2")]
    if type(mlp) is not Mlp or not all(isinstance(layer, nn.Linear) for layer in layers):
        raise Unsupported(f"experts are copies of a plain MLP, and not of {type(mlp).__name__}")
    drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in mlp.modules())
    other = not all(isinstance(drop, nn.Dropout | nn.Identity) for drop in (mlp.drop1, mlp.drop2))
    if drops or other or not isinstance(mlp.norm, nn.Identity):
        raise Unsupported("experts are copies of an MLP without dropout and without a norm inside")


@contextmanager
def counted_loads(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Count, of each mixture and task, the rows that go to each expert while this is open.

    Yields:
        By the mixture's name, int64 [experts] for each task.
    """
    mixtures = {n: part for n, part in model.named_modules() if isinstance(part, ExpertMlp)}
    for part in mixtures.values():
        part.loads = [torch.zeros(part.experts, dtype=torch.int64) for _ in part.gates]
    try:
        yield {name: part.loads or [] for name, part in mixtures.items()}
    finally:
        for part in mixtures.values():
            part.loads = None


def task_of(model: nn.Module) -> dict[Tensor, int]:
    """Return the task of every parameter that is one task's alone: heads and gates.

    Parameters may have any shape.
    """
    found: dict[Tensor, int] = {}
    for part in model.modules():
        if isinstance(part, TaskHeads | ExpertMlp):
            own = part if isinstance(part, TaskHeads) else part.gates
            for task, module in enumerate(own):
                found |= dict.fromkeys(module.parameters(), task)
    return found


def expert_linear(x: Tensor, layer: Experts, route: Route) -> Tensor:
    """Return layer(x) for each row of a route, [rows, out], x [batch, tokens, in].

    What is kept for the backward pass is x itself, and not a copy for each expert it goes to.
    """
    x = lowered(x)
    if not torch.is_grad_enabled():  # a trace would see no products inside the function
        return by_expert(gathered(x, route.token), layer.weight, layer.bias, route.ends)
    output: Tensor = _ExpertLinear.apply(x, layer.weight, layer.bias, route)
    return output


def rows_linear(rows: Tensor, layer: Experts, route: Route) -> Tensor:
    """Return layer(row) for each row of a route, [rows, out]."""
    rows = lowered(rows)
    if not torch.is_grad_enabled():
        return by_expert(rows, layer.weight, layer.bias, route.ends)
    output: Tensor = _RowsLinear.apply(rows, layer.weight, layer.bias, route)
    return output


def lowered(x: Tensor) -> Tensor:
    """Return x, of any shape, in the type autocast gives to products."""
    kind = x.device.type
    if kind == "meta":  # knows no autocast
        return x
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class _ExpertLinear(Function):
    """Gathers rows of x and multiplies them; gathers them again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, route: Route) -> Tensor:
        kept = x if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(kept, weight, route.ends, route.token)
        ctx.shape = x.shape
        return by_expert(gathered(x, route.token), weight, bias, route.ends)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        x, weight, ends, token = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_x = of_weight = of_bias = None
        if needs_weight:
            of_weight = torch.zeros_like(weight)
            add_weights(of_weight, gradient, gathered(x, token), ends)
        if needs_bias:
            of_bias = add_biases(gradient, ends, weight)
        if needs_x:
            of_rows = by_expert(gradient, weight.transpose(1, 2), None, ends)
            of_x = scatter_rows(of_rows, token, ctx.shape[:2].numel()).view(ctx.shape)
        return of_x, of_weight, of_bias, None


class _RowsLinear(Function):
    """Multiplies rows that are gathered already."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, route: Route) -> Tensor:
        kept = rows if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(kept, weight, route.ends)
        return by_expert(rows, weight, bias, route.ends)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = outputs
        rows, weight, ends = ctx.saved_tensors
        needs_rows, needs_weight, needs_bias, _ = ctx.needs_input_grad
        of_rows = of_weight = of_bias = None
        if needs_weight:
            of_weight = torch.zeros_like(weight)
            add_weights(of_weight, gradient, rows, ends)
        if needs_bias:
            of_bias = add_biases(gradient, ends, weight)
        if needs_rows:
            of_rows = by_expert(gradient, weight.transpose(1, 2), None, ends)
        return of_rows, of_weight, of_bias, None
