"""Update parameters with gradients that a method estimates without a backward pass."""

from collections.abc import Callable

from torch import Tensor

from bsrbench.harness.model.experts import task_of
from bsrbench.harness.training.job import Job
from bsrbench.harness.workload.seeds import seed_of


def update_one_by_one(
    job: Job, loss: Callable[[], Tensor], number: int, enter_phase: Callable[[str], None]
) -> None:
    """Let the method estimate gradients, and update each parameter as soon as it has its own.

    Parameters may have any shape.

    Args:
        job: the trial, with one optimizer for each parameter.
        loss: runs the forward pass of the batch, and returns the mean loss, of shape [].
        number: number of the step in the training, from 0.
        enter_phase: called with ``optimizer`` when the first update begins.
    """
    owners, task = task_of(job.model), 0 if job.turn is None else job.turn.task
    optimizers = {
        parameter: optimizer
        for parameter, optimizer in zip(job.trained(), job.optimizers, strict=True)
        if owners.get(parameter, task) == task
    }
    seed = seed_of("direction", job.spec.seed, number, task)
    updating = False
    for parameter, gradient in job.method.gradients(job.model, tuple(optimizers), loss, seed):
        if not updating:
            enter_phase("optimizer")
            updating = True
        parameter.grad = gradient
        del gradient  # so that it is freed before the next one is made
        optimizers[parameter].step()
        parameter.grad = None
