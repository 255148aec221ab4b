"""Runs trials; knows no method by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from bsrbench.harness.own_step.step_profile import StepProfile


def profile(
    model: "torch.nn.Module",
    step: Callable[[], object],
    optimizer: "torch.optim.Optimizer | None" = None,
    repeats: int = 5,
) -> "StepProfile":
    """Count the memory and FLOPs of a step of one's own, and time it.

    Args:
        model: whose modules are told apart.
        step: does one whole step: forward; and, if it trains, backward and optimizer.
        optimizer: need not be named if its step runs in the step; its state has a category of its
            own.
        repeats: timed runs; the step runs four times more.

    Raises:
        BadInput: the model is none, the step is not to be called, or there are no repetitions.
    """
    from bsrbench.harness.own_step.profile_step import profile_step  # noqa: PLC0415 - commands do not wait for torch

    return profile_step(model, step, optimizer, repeats)
