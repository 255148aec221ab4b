"""The optimizers of a trial: one for all parameters, or one for each parameter."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from timm.optim import param_groups_layer_decay
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bsrbench.harness.method import Unsupported
from bsrbench.harness.model.experts import task_of
from bsrbench.harness.model.vit import head
from bsrbench.harness.spec.optimizer_options import all_options
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.training.update_rules.choice import rule_of
from bsrbench.harness.training.update_rules.rule_optimizer import RuleOptimizer

# Makes an optimizer of groups of parameters.
Maker = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]


def make_optimizers(
    model: nn.Module,
    workload: Workload,
    *,
    one_each: bool = False,
    places: Mapping[Tensor, int] | None = None,
    own_groups: Mapping[Tensor, int] | None = None,
) -> tuple[torch.optim.Optimizer, ...]:
    """Return the optimizers of all parameters that require a gradient.

    Each parameter is handled separately, so one optimizer for all of them and one for each of them
    give the same bits. The kernels of SGD and AdamW are fused: they pass over memory once and need
    no temporaries.

    Args:
        model: the prepared model.
        workload: the workload, with the settings of the optimizer.
        one_each: make one optimizer for each parameter, which can then step alone.
        places: parameter -> its number, from which an optimizer with random numbers seeds them; by
            default its number among the trained parameters.
        own_groups: parameter, of any shape -> number of its part of the model. Parameters of
            different parts get different groups, so that one can begin to train after the other.

    Raises:
        Unsupported: no parameter requires a gradient.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise Unsupported("the method leaves no parameter to train")
    groups = _with_head_factor(model, _groups(model, trained, workload), workload)
    groups = _split(groups, own_groups or {})
    make = _maker(workload, places or places_of(model))
    if not one_each:
        return (make(groups),)
    alone = [group | {"params": [single]} for group in groups for single in group["params"]]
    return tuple(make([group]) for group in alone)


def places_of(model: nn.Module) -> dict[Tensor, int]:
    """Return the number of each trained parameter, which may have any shape."""
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return {parameter: place for place, parameter in enumerate(trained)}


def step_in_backward(optimizers: tuple[torch.optim.Optimizer, ...]) -> list[RemovableHandle]:
    """Let each optimizer step as soon as autograd has accumulated its parameter's whole gradient.

    The gradient is then freed.

    Args:
        optimizers: one for each parameter.

    Returns:
        Handles of the hooks, which end this.
    """
    return [_stepping(optimizer) for optimizer in optimizers]


def _stepping(optimizer: torch.optim.Optimizer) -> RemovableHandle:
    ((parameter,),) = (group["params"] for group in optimizer.param_groups)

    def step_and_free(stepped: Tensor) -> None:
        optimizer.step()
        stepped.grad = None

    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(step_and_free)
    return handle


def _groups(
    model: nn.Module, trained: list[nn.Parameter], workload: Workload
) -> list[dict[str, Any]]:
    """Return groups of parameters with the same settings; ``lr_scale`` is a factor of the rate."""
    decay = workload.weight_decay
    if workload.layer_decay == 1 and workload.decay_vectors:
        whole = {"params": trained, "lr_scale": 1.0, "weight_decay": decay}
        return _split([whole], task_of(model))
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
    return _split(groups, task_of(model))


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


def _split(groups: list[dict[str, Any]], owner: Mapping[Tensor, int]) -> list[dict[str, Any]]:
    """Split groups so that all parameters of a group have their first step at the same time.

    torch's fused SGD expects that all parameters of a group have momentum, or none of them. A
    parameter that only one task uses has its first step in the turn of that task.
    """
    return [
        group | {"params": own}
        for group in groups
        for part in sorted({owner.get(parameter, -1) for parameter in group["params"]})
        if (own := [p for p in group["params"] if owner.get(p, -1) == part])
    ]


def _maker(workload: Workload, places: Mapping[Tensor, int]) -> Maker:
    """Return what makes the workload's optimizer of some groups of parameters."""
    rule = rule_of(workload)
    if rule is not None:
        return lambda groups: RuleOptimizer(groups, workload.optimizer, rule, places)
    if workload.optimizer == "sgd":
        return lambda groups: torch.optim.SGD(
            groups, lr=0.0, momentum=workload.momentum, fused=True
        )
    options: dict[str, Any] = all_options(workload.optimizer, workload.optimizer_options)
    betas, eps = (options["beta1"], options["beta2"]), options["eps"]
    return lambda groups: torch.optim.AdamW(groups, lr=0.0, betas=betas, eps=eps, fused=True)
