"""The optimizers of what trains at the moment, which a method may change between steps."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bsrbench.harness.composition import has_own_loss
from bsrbench.harness.method import Kind, Method, State, Unsupported
from bsrbench.harness.model.vit import blocks
from bsrbench.harness.spec.trial_spec import TrialSpec, Workload
from bsrbench.harness.training.loss_scaling import LossScaler
from bsrbench.harness.training.optimizers import make_optimizers, places_of, step_in_backward

Optimizers = tuple[torch.optim.Optimizer, ...]
NO_BACKWARD = (
    "the method has no backward pass in which an optimizer could step; it already updates one "
    "parameter after the other, and holds one gradient at a time"
)
SEVERAL_BACKWARD = (
    "the method's loss has several terms with a backward pass each, and an optimizer in the "
    "backward pass would step after each of them: leave out optimizer_in_backward"
)


class CurrentOptimizers:
    """The optimizers of what trains at the moment.

    A method without states always trains the same, so these are always the same optimizers. When a
    method enters a state, it gets new ones. Parameters that go on training keep their optimizer
    state; the state of the others is dropped.

    Args:
        method: the method of the trial.
        model: the model that it has prepared.
        workload: the workload, with the settings of the optimizer.
        scaler: scales the loss; ``None`` if the precision is not fp16.

    Attributes:
        states: the states that are measured; empty if always the same trains.
        state: the state of the moment; ``None`` without states.
        now: the optimizers of the moment.

    Raises:
        Unsupported: nothing trains, or the optimizer cannot step inside the backward pass.
    """

    def __init__(
        self, method: Method, model: nn.Module, workload: Workload, scaler: LossScaler | None
    ) -> None:
        estimates = Kind.ESTIMATES_GRADIENT in method.kinds
        if estimates and workload.optimizer_in_backward:
            raise Unsupported(NO_BACKWARD)
        if has_own_loss(method) and workload.optimizer_in_backward:
            raise Unsupported(SEVERAL_BACKWARD)
        self._method, self._model, self._workload = method, model, workload
        self._scaler, self._rate = scaler, 0.0
        self._one_each = estimates or workload.optimizer_in_backward
        self._hooks: list[RemovableHandle] = []
        self._kept: dict[State, Optimizers] | None = None
        self.states = method.states(model)
        self.state: State | None = None
        self.now: Optimizers = ()
        self._places = places_of(model)
        self._blocks = _block_of(model) if self.states else {}
        if self.states:
            self.enter(self.states[0])
        else:
            self._begin(self._made())

    def trained(self) -> list[Tensor]:
        """Return the parameters, of any shape, that the optimizers update."""
        groups = chain.from_iterable(optimizer.param_groups for optimizer in self.now)
        return [parameter for group in groups for parameter in group["params"]]

    def in_each_state(self) -> Iterator[State | None]:
        """Enter each state in turn, and yield it; without states yield ``None`` once."""
        if not self.states:
            yield None
        for state in self.states:
            self.enter(state)
            yield state

    def enter_next(self) -> None:
        """Enter the next one of the measured states; without states do nothing."""
        if self.states and self.state is not None:
            place = self.states.index(self.state) + 1
            self.enter(self.states[place % len(self.states)])

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of every parameter group to ``rate`` times its ``lr_scale``."""
        self._rate = rate
        for optimizer in self.now:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["lr_scale"]

    def keep_all(self) -> None:
        """Keep the optimizers of each state from now on, so that each step is a steady one.

        Nothing is dropped and made again at a change of states. This is for reading clocks, since
        a state lasts for many steps; it is not how a method trains.
        """
        self._kept = {} if self.state is None else {self.state: self.now}

    def enter(self, state: State) -> None:
        """Make the parameters of a state trainable, and make their optimizers."""
        if state == self.state:
            return
        for hook in self._hooks:
            hook.remove()
        before, self.state = self.now, state
        self._method.enter(self._model, state)
        if self._kept is None:
            made = self._made()
            _carry_over(before, made)
        else:
            if state not in self._kept:
                self._kept[state] = self._made()
            made = self._kept[state]
        self._begin(made)

    def _made(self) -> Optimizers:
        made = make_optimizers(
            self._model,
            self._workload,
            one_each=self._one_each,
            places=self._places,
            own_groups=self._blocks,
        )
        if self._scaler is not None:
            self._scaler.watch(made)
        return made

    def _begin(self, optimizers: Optimizers) -> None:
        self.now = optimizers
        self.set_learning_rate(self._rate)
        in_backward = self._workload.optimizer_in_backward
        self._hooks = step_in_backward(optimizers) if in_backward else []


def require_estimates(method: Method, spec: TrialSpec) -> None:
    """Check that a trial asks for nothing that needs a backward pass, if the method has none.

    Raises:
        Unsupported: it does.
    """
    if Kind.ESTIMATES_GRADIENT not in method.kinds:
        return
    if spec.workload.precision == "fp16":
        raise Unsupported(
            "the method has no backward pass, so it needs no loss scale: use fp32 or bf16"
        )
    if spec.training is not None and spec.training.clip_norm is not None:
        raise Unsupported(
            "clip_norm bounds the norm of a gradient; an estimate along one random direction is "
            "longer than the gradient by about the square root of the number of trained "
            "parameters, so clipping would set its length: leave out clip_norm"
        )


def most_trained(method: Method, model: nn.Module) -> int:
    """Return how many elements the parameters have that train at once, at most.

    Args:
        method: the method.
        model: the model that it has prepared; it is left as it is.
    """
    return max(_trained_elements(model) for _ in each_state(method, model))


def each_state(method: Method, model: nn.Module) -> Iterator[State | None]:
    """Enter each state of a method in turn and yield it; then leave the model as it was.

    Without states yield ``None`` once.
    """
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for state in method.states(model) or (None,):
            if state is not None:
                method.enter(model, state)
            yield state
    finally:  # also if a loop ends early
        for parameter, trained in before.items():
            parameter.requires_grad_(trained)


def _trained_elements(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _block_of(model: nn.Module) -> dict[Tensor, int]:
    """Return the number of the block of each parameter that is in one."""
    return {
        parameter: number
        for number, block in enumerate(blocks(model))
        for parameter in block.parameters()
    }


def _carry_over(before: Optimizers, after: Optimizers) -> None:
    """Give new optimizers the state of the parameters that they share with those before."""
    known = dict(chain.from_iterable(optimizer.state.items() for optimizer in before))
    for optimizer in after:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in known:
                    optimizer.state[parameter] = known[parameter]
