"""The optimizers of a trial: one for all parameters, or one per parameter in the backward pass."""

from collections.abc import Callable
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import task_of
from bsrbench.harness.model.vit import head
from bsrbench.harness.spec.optimizer_options import all_options
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.update_rules.choice import rule_of
from bsrbench.harness.training.update_rules.rule_optimizer import RuleOptimizer

# Makes an optimizer of groups of parameters.
Maker = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def make_optimizers(model: nn.Module, workload: Workload) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers of all parameters that require a gradient.

    There is one optimizer. With ``optimizer_in_backward`` there is one per parameter: as soon as
    autograd has accumulated the whole gradient, the optimizer steps and frees the gradient.
    Each parameter is handled separately, so both ways give the same bits. The kernels of SGD and
    AdamW are fused: they pass over memory once and need no temporaries.

    Raises:
        Unsupported: no parameter requires a gradient.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise Unsupported("the method leaves no parameter to train")
    groups = _with_head_factor(model, _groups(model, trained, workload), workload)
    make = _maker(workload, trained)
    if not workload.optimizer_in_backward:
        return (make(groups),)
    alone = [group | {"params": [single]} for group in groups for single in group["params"]]
    return tuple(_in_backward(group, make) for group in alone)


def _groups(
    model: nn.Module, trained: list[nn.Parameter], workload: Workload
) -> list[dict[str, Any]]:
    """Return groups of parameters with the same settings; ``lr_scale`` is a factor of the rate."""
    decay = workload.weight_decay
    if workload.layer_decay == 1 and workload.decay_vectors:
        whole = {"params": trained, "lr_scale": 1.0, "weight_decay": decay}
        return _by_task([whole], task_of(model))
    listed: Any = getattr(model, "no_weight_decay", tuple)
    # Biases are found by name, too: those of experts are vectors that are stacked to a matrix.
    biases = [name for name, _ in model.named_parameters() if name.endswith(".bias")]
    groups: list[dict[str, Any]] = param_groups_layer_decay(
        model,
        weight_decay=decay,
        no_weight_decay_list=() if workload.decay_vectors else [*listed(), *biases],
        weight_decay_exclude_1d=not workload.decay_vectors,
        layer_decay=workload.layer_decay,
    )
    return _by_task(groups, task_of(model))


def _with_head_factor(
    model: nn.Module, groups: list[dict[str, Any]], workload: Workload
) -> list[dict[str, Any]]:
    """Put the head's parameters into groups of their own, with their factor of the rate."""
    if workload.head_rate_factor == 1:
        return groups
    of_head = {id(parameter) for parameter in head(model).parameters()}
    factors = {True: workload.head_rate_factor, False: 1.0}
    return [
        group | {"params": own, "lr_scale": group["lr_scale"] * factor}
        for group in groups
        for in_head, factor in factors.items()
        if (own := [p for p in group["params"] if (id(p) in of_head) == in_head])
    ]


def _by_task(groups: list[dict[str, Any]], owner: dict[Tensor, int]) -> list[dict[str, Any]]:
    """Split groups so that all parameters of a group have their first step at the same time.

    torch's fused SGD expects that all parameters of a group have momentum, or none of them. A
    parameter that only one task uses has its first step in the turn of that task.
    """
    return [
        group | {"params": own}
        for group in groups
        for task in sorted({owner.get(parameter, -1) for parameter in group["params"]})
        if (own := [p for p in group["params"] if owner.get(p, -1) == task])
    ]


def _maker(workload: Workload, trained: list[nn.Parameter]) -> Maker:
    """Return what makes the workload's optimizer of some groups of parameters."""
    rule = rule_of(workload)
    if rule is not None:
        places: dict[Tensor, int] = {parameter: place for place, parameter in enumerate(trained)}
        return lambda groups: RuleOptimizer(groups, workload.optimizer, rule, places)
    if workload.optimizer == "sgd":
        return lambda groups: torch.optim.SGD(
            groups, lr=0.0, momentum=workload.momentum, fused=True
        )
    options: dict[str, Any] = all_options(workload.optimizer, workload.optimizer_options)
    betas, eps = (options["beta1"], options["beta2"]), options["eps"]
    return lambda groups: torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)


def _in_backward(group: dict[str, Any], make: Maker) -> torch.optim.Optimizer:
    optimizer = make([group])
    (parameter,) = group["params"]

    def step_and_free(stepped: Tensor) -> None:
        optimizer.step()
        stepped.grad = None

    parameter.register_post_accumulate_grad_hook(step_and_free)
    return optimizer
