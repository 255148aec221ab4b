"""The meters for a user's own training step: any model and any loop."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters.live_bytes import Category, LiveBytes
from bsrbench.harness.meters.operator_modules import OperatorModules
from bsrbench.harness.meters.phase_clock import seconds_each
from bsrbench.harness.meters.step_flops import StepFlops
from bsrbench.harness.own_step.own_tensors import OwnTensors
from bsrbench.harness.own_step.step_profile import StepProfile
from bsrbench.harness.torch_internals.eager_internals import runs_backward
from bsrbench.harness.training.compiled_forward import runs_compiled
from bsrbench.harness.training.kept_storages import KeptStorages, census

REPEATS = 5
NOT_COUNTED = (
    "a part of the step is compiled, and under the meters it runs uncompiled: its memory cannot be "
    "counted, and FLOPs are those of the uncompiled step"
)
Step = Callable[[], object]


def profile_step(
    model: nn.Module,
    step: Step,
    optimizer: torch.optim.Optimizer | None = None,
    repeats: int = REPEATS,
) -> StepProfile:
    """Count the memory and FLOPs of a training step, and time it.

    The step is executed ``repeats`` + 4 times: once to create the optimizer state, once under each
    of two meters, once as warm-up, and then for timing without meters.

    Args:
        model: the model; saved activations are reported per module of it.
        step: runs one whole step: forward and, if it trains, backward and optimizer.
        optimizer: an optimizer whose state counts although its step is not observed; optimizers
            that run in the step are found automatically.
        repeats: number of timed runs.

    Raises:
        BadInput: the model is not a module, the step cannot be called, or ``repeats`` is below 1.
    """
    _check(model, step, repeats)
    with census() as kept:
        with _steps_of_optimizers() as running:
            step()
        used = dict.fromkeys([*([optimizer] if optimizer else []), *running.seen])
        own = OwnTensors(model, step, tuple(used))
        with _without_compiling():
            live, flops = _counted(own, kept), _flops(model, step)
    compiled = runs_compiled(step)
    seconds = tuple(seconds_each(step, repeats, _wait(model)))
    forward, whole = flops.by_phase["forward"], sum(flops.by_phase.values())
    notes = tuple(flops.overlooked())
    if compiled:
        return StepProfile(None, None, {}, {}, forward, whole, seconds, (NOT_COUNTED, *notes))
    kinds: Counter[str] = Counter()
    for sizes in live.at_peak().values():
        kinds.update({str(category): size for category, size in sizes.items()})
    saved = Counter({name or "no module": size for name, size in live.held_by_owner().items()})
    return StepProfile(
        peak_counted_bytes=live.peak,
        held_after_forward_bytes=saved.total(),
        at_peak_bytes={str(category): kinds[str(category)] for category in Category},
        by_module_bytes=dict(saved.most_common()),
        forward_flop=forward,
        step_flop=whole,
        step_seconds=seconds,
        notes=notes,
    )


@contextmanager
def _without_compiling() -> Iterator[None]:
    """Run compiled code eagerly: torch 2.9 and 2.11 never recompile code that ran under a meter."""
    with torch.compiler.set_stance("force_eager"):
        yield


def _check(model: object, step: object, repeats: int) -> None:
    if not isinstance(model, nn.Module):
        raise BadInput(f"model must be a torch module, got {type(model).__name__}")
    if not callable(step):
        raise BadInput(f"step must be a function without arguments, got {type(step).__name__}")
    if repeats < 1:
        raise BadInput(f"repeats {repeats} must be at least 1")


class _Running:
    """The optimizers whose step has begun, and how many steps are running."""

    def __init__(self) -> None:
        self.seen: list[torch.optim.Optimizer] = []
        self.depth = 0

    def begin(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        """Record that an optimizer's step begins."""
        self.seen.append(optimizer)
        self.depth += 1

    def end(self, *_: object) -> None:
        """Record that an optimizer's step ends."""
        self.depth -= 1


@contextmanager
def _steps_of_optimizers() -> Iterator[_Running]:
    """Record the steps of every torch optimizer in this process."""
    running = _Running()
    with ExitStack() as stack:
        for handle in (
            register_optimizer_step_pre_hook(running.begin),
            register_optimizer_step_post_hook(running.end),
        ):
            stack.callback(handle.remove)
        yield running


class _Phases:
    """Detects the phase of a step and tells a meter when it changes.

    Code that autograd runs is in the phase "backward". Code that an optimizer's step runs is in the
    phase "optimizer", except a closure, which enables gradients again. All other code is in the
    phase "forward".
    """

    def __init__(self, owner: OperatorModules, running: _Running) -> None:
        self._owner, self._running = owner, running
        self._phase = "forward"
        self.meter: LiveBytes | StepFlops | None = None

    def now(self) -> str:
        """Return the name of the running module; also update the phase."""
        name = self._owner.now()
        phase = self._current_phase()
        if phase != self._phase and self.meter is not None:
            self.meter.enter_phase(phase)
        self._phase = phase
        return name

    def _current_phase(self) -> str:
        if runs_backward():
            return "backward"
        optimizing = self._running.depth and not torch.is_grad_enabled()
        return "optimizer" if optimizing else "forward"


@contextmanager
def _phases(model: nn.Module) -> Iterator[_Phases]:
    with OperatorModules(model) as owner, _steps_of_optimizers() as running:
        yield _Phases(owner, running)


def _counted(own: OwnTensors, kept: KeptStorages) -> LiveBytes:
    with _phases(own.model) as phases:
        live = LiveBytes(phases.now, device=_device(own.model), reads=Category.INPUTS)
        with live:
            phases.meter = live
            own.watch(live, kept)
            with _watched_gradients(own, live):
                own.step()
            own.watch_again(live)
            live.keep_rest()
    return live


@contextmanager
def _watched_gradients(own: OwnTensors, live: LiveBytes) -> Iterator[None]:
    """Tell the meter the category of each gradient as soon as autograd has set ``grad``."""

    def watch(parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            live.watch([parameter.grad], Category.GRADIENTS)

    with ExitStack() as stack:
        for parameter in own.trained():
            handle = parameter.register_post_accumulate_grad_hook(watch)
            stack.callback(handle.remove)
        yield


def _flops(model: nn.Module, step: Step) -> StepFlops:
    with _phases(model) as phases:
        flops = StepFlops(phases.now)
        phases.meter = flops
        with flops:
            step()
    return flops


def _wait(model: nn.Module) -> Callable[[], None]:
    """Return a function that waits until the model's device is done."""
    kind = _device(model)
    if kind == "cpu":
        return lambda: None
    waits: Callable[[], None] = torch.get_device_module(kind).synchronize
    return waits


def _device(model: nn.Module) -> str:
    return next((parameter.device.type for parameter in model.parameters()), "cpu")
