"""Mixtures of experts that replace MLPs, with one gate per task.

The architecture is the multi-gate mixture of experts of M3ViT (NeurIPS 2022), as in BSR's official
code (f3a8595, models/moe.py). Here matrix products are grouped by expert; there is no loop over
samples.
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
    """The assignment of tokens to experts.

    There is one row per pair of a token and its expert. The rows are sorted by expert.

    Attributes:
        ends: index after the last row of each expert, [experts].
        token: index of each row's token among the tokens of all images, [rows].
        weight: gate value that weights each row's output, [rows]; the gate's gradient flows
            through it.
    """

    ends: Tensor
    token: Tensor
    weight: Tensor


class Experts(nn.Module):
    """One linear layer of every expert of a mixture.

    Args:
        layer: the layer that every expert copies at the start.
        experts: number of experts.

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
    """A mixture of experts: the gate of the task sends each token to ``top_k`` experts.

    The gate is a linear layer without bias, followed by a softmax over all experts. Each token goes
    to the experts with the ``top_k`` largest softmax values. These values weight the outputs of the
    experts; they are not renormalised to a sum of 1. There is no noise and no load-balancing loss.

    Args:
        dense: the MLP that every expert copies at the start.
        experts: number of experts.
        top_k: number of experts per token.
        turn: the object that holds the current task.
    """

    def __init__(self, dense: Any, experts: int, top_k: int, turn: TaskTurn) -> None:
        super().__init__()
        width = dense.fc1.in_features
        self.gates = nn.ModuleList(_gate(dense.fc1, width, experts) for _ in range(turn.tasks))
        self.fc1, self.fc2 = (Experts(layer, experts) for layer in (dense.fc1, dense.fc2))
        self.act = copy.deepcopy(dense.act)
        self.experts, self.top_k, self.turn = experts, top_k, turn
        self.loads: list[Tensor] | None = None  # one tensor per task, within counted_loads

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
    """Return a gate with weights drawn uniformly from +-1 / sqrt(experts).

    M3ViT stores the gate as a [dim, experts] matrix, and torch's Kaiming initialisation gives this
    bound for it. For the [experts, dim] matrix of a Linear layer, the same initialisation would
    give 1 / sqrt(dim). Such gates would hardly prefer any expert.
    """
    gate = nn.Linear(width, experts, bias=False, device=like.weight.device, dtype=like.weight.dtype)
    nn.init.uniform_(gate.weight, -(experts**-0.5), experts**-0.5)
    return gate


def take_turns(
    model: Any, classes: Iterable[int], blocks: Iterable[int], experts: int, top_k: int
) -> None:
    """Add one head per task to a timm vision transformer, and mixtures of experts to some blocks.

    Args:
        model: the model; changed in place. The experts start as copies of its MLPs.
        classes: number of classes of each task.
        blocks: indices of the blocks whose MLP is replaced by a mixture of experts.
        experts: number of experts.
        top_k: number of experts per token.

    Raises:
        Unsupported: an MLP has parts that experts do not copy, or the model has two heads.
    """
    if isinstance(model.get_classifier(), tuple):
        raise Unsupported("the model has two heads, but several tasks need one head per task")
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
        raise Unsupported(f"experts are copies of a plain MLP, not of {type(mlp).__name__}")
    drops = any(isinstance(part, nn.Dropout) and part.p > 0 for part in mlp.modules())
    unknown = not all(isinstance(drop, nn.Dropout | nn.Identity) for drop in (mlp.drop1, mlp.drop2))
    if drops or unknown or not isinstance(mlp.norm, nn.Identity):
        raise Unsupported("experts are copies of an MLP without dropout and without a norm inside")


@contextmanager
def counted_loads(model: nn.Module) -> Iterator[dict[str, list[Tensor]]]:
    """Count the rows of each expert, per mixture and task, while this context is open.

    Yields:
        For each mixture's name, one int64 tensor [experts] per task.
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
    """Return the task of every parameter that only one task uses: the heads and the gates.

    Parameters may have any shape.
    """
    tasks: dict[Tensor, int] = {}
    for part in model.modules():
        if isinstance(part, TaskHeads | ExpertMlp):
            own = part if isinstance(part, TaskHeads) else part.gates
            for task, module in enumerate(own):
                tasks |= dict.fromkeys(module.parameters(), task)
    return tasks


def expert_linear(x: Tensor, layer: Experts, route: Route) -> Tensor:
    """Return the layer's output for each row of a route: [rows, out].

    x is [batch, tokens, in]. For the backward pass x itself is saved, and not one copy per expert.
    """
    x = lowered(x)
    if not torch.is_grad_enabled():  # a trace does not see products inside an autograd Function
        return by_expert(gathered(x, route.token), layer.weight, layer.bias, route.ends)
    output: Tensor = _ExpertLinear.apply(x, layer.weight, layer.bias, route)
    return output


def rows_linear(rows: Tensor, layer: Experts, route: Route) -> Tensor:
    """Return the layer's output for each row [in] of a route: [rows, out]."""
    rows = lowered(rows)
    if not torch.is_grad_enabled():
        return by_expert(rows, layer.weight, layer.bias, route.ends)
    output: Tensor = _RowsLinear.apply(rows, layer.weight, layer.bias, route)
    return output


def lowered(x: Tensor) -> Tensor:
    """Return x, of any shape, in the dtype that autocast uses for matrix products."""
    kind = x.device.type
    if kind == "meta":  # the meta device does not support autocast
        return x
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class _ExpertLinear(Function):
    """Gather rows of x and multiply them by expert; gather them again in the backward pass."""

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
    """Multiply rows by expert; the rows are already gathered."""

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
