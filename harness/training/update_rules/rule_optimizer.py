"""A torch optimizer that updates each parameter by one rule."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from bsrbench.harness.torch_internals.eager_internals import (
    handle_loss_scale,
    makes_fake_tensors,
)

STEP = "step"  # key of the number of steps in the state of a parameter


@dataclass(frozen=True)
class Update:
    """What a rule must know of the update of one parameter.

    Attributes:
        step: number of the parameter's step, counted from 1.
        learning_rate: the rate of the step.
        weight_decay: share of the parameter that is removed, per unit of the rate.
        place: number of the parameter among all trained ones, counted from 0.
    """

    step: int
    learning_rate: float
    weight_decay: float
    place: int

    def decay(self, parameter: Tensor) -> None:
        """Apply decoupled weight decay, as AdamW does, to a parameter of any shape."""
        if self.weight_decay:
            parameter.mul_(1 - self.learning_rate * self.weight_decay)


class UpdateRule(Protocol):
    """How one parameter is updated.

    A rule runs over fake tensors, so it reads no value of a tensor. It handles each parameter
    separately, so an update inside the backward pass gives the same bits.
    """

    def begin(self, parameter: Tensor) -> dict[str, Tensor]:
        """Return the state of a parameter of any shape before its first step."""

    def update(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], update: Update
    ) -> None:
        """Update a parameter and its state in place.

        Args:
            parameter: of any shape.
            gradient: its gradient, of the same shape; it must not be changed.
            state: what ``begin`` returned, as the last update left it.
            update: rate, decay and number of the step.
        """


class RuleOptimizer(torch.optim.Optimizer):
    """A torch optimizer that updates each parameter by one rule.

    In fp16 it divides gradients by the scale of the loss, as torch's fused optimizers do. If a
    gradient is not finite, it does nothing. For that it reads one number from the device per step.

    Args:
        groups: the groups of parameters, with ``weight_decay``.
        name: the name of the optimizer, which is part of its saved state.
        rule: the rule.
        places: parameter -> its number among all trained parameters.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        name: str,
        rule: UpdateRule,
        places: Mapping[Tensor, int],
    ) -> None:
        self._rule, self._places = rule, places
        super().__init__(groups, {"lr": 0.0, "weight_decay": 0.0, "rule": name})
        handle_loss_scale(self)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch has overloads
        """Update every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        if self._must_skip():
            return loss
        scale: Tensor | None = getattr(self, "grad_scale", None)
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if scale is not None:
                    gradient.div_(scale)
                self._update(parameter, gradient, group)
        return loss

    def _must_skip(self) -> bool:
        """Return whether ``GradScaler`` found a gradient that is not finite."""
        found: Tensor | None = getattr(self, "found_inf", None)
        return found is not None and not makes_fake_tensors() and bool(found.item())

    def _update(self, parameter: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state |= {STEP: 0} | self._rule.begin(parameter)
        state[STEP] += 1
        settings = Update(state[STEP], group["lr"], group["weight_decay"], self._places[parameter])
        self._rule.update(parameter, gradient, state, settings)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state.

        Raises:
            ValueError: the state is not one of this rule, or a tensor has another shape.
        """
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            fresh = self._rule.begin(torch.empty_like(parameter, device="meta"))
            if set(state) != {STEP, *fresh} or not isinstance(state[STEP], int):
                raise ValueError(f"its state has {', '.join(map(str, state))}")
            for name, expected in fresh.items():
                if not isinstance(state[name], Tensor) or state[name].shape != expected.shape:
                    raise ValueError(
                        f"{name} does not have shape {tuple(expected.shape)}, which the options of "
                        f"{self.param_groups[0]['rule']} give it"
                    )
                # torch has converted the codes to the type of the parameter, which is exact.
                state[name] = state[name].to(expected.dtype)
