"""The optimizer of a trial: one for all parameters, or one for each inside the backward pass."""

from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import task_of
from bsrbench.harness.spec.trial_spec import Workload


def make_optimizers(model: nn.Module, workload: Workload) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers of all parameters that ask for a gradient.

    It is one, or with ``optimizer_in_backward`` one a parameter: it then steps by itself and frees
    the gradient, when autograd has added up all of it. The kernels are fused, which pass over
    memory once, need no temporaries, and do each parameter by itself: both ways give the same bits.

    Raises:
        Unsupported: there are none.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise Unsupported("the method leaves no parameter to train")
    groups = _groups(model, trained, workload)
    if not workload.optimizer_in_backward:
        return (_optimizer(groups, workload),)
    alone = [group | {"params": [one]} for group in groups for one in group["params"]]
    return tuple(_in_backward(group, workload) for group in alone)


def _groups(
    model: nn.Module, trained: list[nn.Parameter], workload: Workload
) -> list[dict[str, Any]]:
    """Return parameters by what the recipe does to them; ``lr_scale`` is a share of its rate."""
    decay = workload.weight_decay
    if workload.layer_decay == 1 and workload.decay_vectors:
        whole = {"params": trained, "lr_scale": 1.0, "weight_decay": decay}
        return _by_task([whole], task_of(model))
    listed: Any = getattr(model, "no_weight_decay", tuple)
    # By name, too: the biases of experts are stacked, and still one vector each.
    biases = [name for name, _ in model.named_parameters() if name.endswith(".bias")]
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model,
        weight_decay=decay,
        no_weight_decay_list=() if workload.decay_vectors else [*listed(), *biases],
        weight_decay_exclude_1d=not workload.decay_vectors,
        layer_decay=workload.layer_decay,
    )
    return _by_task(groups, task_of(model))


def _by_task(groups: list[dict[str, Any]], owner: dict[Tensor, int]) -> list[dict[str, Any]]:
    """Return groups in which parameters have their first step together.

    torch's fused SGD takes a group's momentum to be there for all of it or for none; what is one
    task's alone has its first step in that task's turn.
    """
    return [
        group | {"params": own}
        for group in groups
        for task in sorted({owner.get(one, -1) for one in group["params"]})
        if (own := [one for one in group["params"] if owner.get(one, -1) == task])
    ]


def _optimizer(groups: list[dict[str, Any]], workload: Workload) -> torch.optim.Optimizer:
    if workload.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    return torch.optim.SGD(groups, lr=0.0, momentum=workload.momentum, fused=True)


def _in_backward(group: dict[str, Any], workload: Workload) -> torch.optim.Optimizer:
    optimizer = _optimizer([group], workload)
    (parameter,) = group["params"]

    def step_and_free(stepped: Tensor) -> None:
        optimizer.step()
        stepped.grad = None

    parameter.register_post_accumulate_grad_hook(step_and_free)
    return optimizer
