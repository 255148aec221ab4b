"""The optimizer of a trial: one for all parameters, or one for each inside the backward pass."""

import torch
from torch import Tensor, nn

from harness.method import Unsupported
from harness.spec import Workload


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
    if not workload.optimizer_in_backward:
        return (_optimizer(trained, workload),)
    return tuple(_in_backward(parameter, workload) for parameter in trained)


def _optimizer(parameters: list[nn.Parameter], workload: Workload) -> torch.optim.Optimizer:
    decay = workload.weight_decay
    if workload.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=0.0, weight_decay=decay, fused=True)
    return torch.optim.SGD(
        parameters, lr=0.0, momentum=workload.momentum, weight_decay=decay, fused=True
    )


def _in_backward(parameter: nn.Parameter, workload: Workload) -> torch.optim.Optimizer:
    optimizer = _optimizer([parameter], workload)

    def step_and_free(stepped: Tensor) -> None:
        optimizer.step()
        stepped.grad = None

    parameter.register_post_accumulate_grad_hook(step_and_free)
    return optimizer
