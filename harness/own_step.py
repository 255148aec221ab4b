"""The meters around a training step of one's own: any model, any loop, nothing else needed."""

import html
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn

from harness.errors import BadInput
from harness.meters.clock import seconds_each
from harness.meters.counted import Category, LiveBytes
from harness.meters.flops import StepFlops
from harness.owner import Owner
from reports import units
from reports.palette import CATEGORY_COLOURS

REPEATS = 5
SHOWN = 5  # modules in a drawing


@dataclass(frozen=True)
class StepProfile:
    """What a step of one's own costs; draws itself in a notebook.

    Attributes:
        peak_counted_bytes: the most bytes of tensors alive at once, as in ``METRICS``.
        held_after_forward_bytes: saved activations when the backward pass began.
        at_peak_bytes: the peak by category.
        by_module_bytes: saved activations when the backward pass began by module, largest first.
        forward_flop: FLOPs before the backward pass, 2 per multiply-add.
        step_flop: FLOPs of the whole step.
        step_seconds: of each timed repetition, with no meter attached.
    """

    peak_counted_bytes: int
    held_after_forward_bytes: int
    at_peak_bytes: dict[str, int]
    by_module_bytes: dict[str, int]
    forward_flop: int
    step_flop: int
    step_seconds: tuple[float, ...]

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is to say in words, scaled and rounded."""
        seconds = self.step_seconds
        spread = f"{units.milliseconds(min(seconds))} to {units.milliseconds(max(seconds))}"
        said = [
            ("peak memory (counted)", f"{units.mebibytes(self.peak_counted_bytes)} MiB"),
            ("held after forward", f"{units.mebibytes(self.held_after_forward_bytes)} MiB"),
            ("FLOPs of the forward pass", f"{units.gigaflop(self.forward_flop)} GFLOP"),
            ("FLOPs of the step", f"{units.gigaflop(self.step_flop)} GFLOP"),
            (f"time of the step (median of {len(seconds)})", f"{median(seconds) * 1e3:,.1f} ms"),
            ("fastest to slowest", f"{spread} ms"),
        ]
        said += [
            (f"at the peak: {category.replace('_', ' ')}", f"{units.mebibytes(size)} MiB")
            for category, size in self.at_peak_bytes.items()
            if size
        ]
        largest = list(self.by_module_bytes.items())[:SHOWN]
        said += [(f"saved by {name}", f"{units.mebibytes(size)} MiB") for name, size in largest]
        return said

    def __str__(self) -> str:
        """Return a line for each number."""
        return "\n".join(f"{name}: {what}" for name, what in self.rows())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # noqa: ARG002 - IPython's protocol
        """Show the same lines at IPython's prompt."""
        printer.text(str(self))

    def _repr_html_(self) -> str:
        """Return a bar of the peak's categories and its legend over a table, for notebooks."""
        total = max(1, self.peak_counted_bytes)
        parts = legend = ""
        for category, size in self.at_peak_bytes.items():
            colour, name = f"background:{CATEGORY_COLOURS[category]}", category.replace("_", " ")
            if size:
                parts += f'<div style="width:{100 * size / total:.2f}%;{colour}"></div>'
                square = f'<span style="display:inline-block;width:.8em;height:.8em;{colour}">'
                legend += f"{square}</span> {name} &nbsp; "
        bar = f'<div style="display:flex;height:1.2em;max-width:40em">{parts}</div>{legend}'
        body = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:right'>{html.escape(what)}</td></tr>"
            for name, what in self.rows()
        )
        return f"{bar}<table>{body}</table>"


def profile_step(
    model: nn.Module,
    step: Callable[[], object],
    optimizer: torch.optim.Optimizer | None = None,
    repeats: int = REPEATS,
) -> StepProfile:
    """Count the memory and FLOPs of a training step, and time it.

    The step really runs, ``repeats`` + 4 times: once so that the optimizer has its state, once
    under each meter, once to warm up and then against the clock, with nothing attached.

    Args:
        model: whose parameters and modules are told apart.
        step: does one whole training step: forward, backward, optimizer.
        optimizer: the one the step uses, so that its state has a category of its own.
        repeats: timed runs.

    Raises:
        BadInput: the step is not to be called, or trains nothing.
    """
    if not callable(step):
        raise BadInput(f"step must be a function without arguments, got {type(step).__name__}")
    if repeats < 1:
        raise BadInput(f"repeats {repeats} must be at least 1")
    step()
    live = _counted(model, step, optimizer)
    kinds: Counter[str] = Counter()
    for sizes in live.at_peak().values():
        kinds.update({str(category): size for category, size in sizes.items()})
    saved = Counter({name or "no module": size for name, size in live.held_by_owner.items()})
    flops = _flops(model, step)
    step()
    return StepProfile(
        peak_counted_bytes=live.peak,
        held_after_forward_bytes=live.held_after_forward,
        at_peak_bytes={str(category): kinds[str(category)] for category in Category},
        by_module_bytes=dict(saved.most_common()),
        forward_flop=flops.by_phase["forward"],
        step_flop=sum(flops.by_phase.values()),
        step_seconds=tuple(seconds_each(step, repeats, _wait(model))),
    )


class _Phases:
    """Notices from autograd itself when a backward pass begins, and tells a meter."""

    def __init__(self, owner: Owner, meter: LiveBytes | StepFlops | None = None) -> None:
        self.owner, self.meter = owner, meter
        self.backward = False

    def now(self) -> str:
        """Return the module that runs; on the way, note where the backward pass begins."""
        inside = torch._C._current_graph_task_id() != -1  # noqa: SLF001 - torch offers no other
        if inside and not self.backward and self.meter is not None:
            self.meter.enter_phase("backward")
        self.backward = self.backward or inside
        return self.owner.now()


def _counted(
    model: nn.Module, step: Callable[[], object], optimizer: torch.optim.Optimizer | None
) -> LiveBytes:
    with Owner(model) as owner:
        phases = _Phases(owner)
        live = LiveBytes(phases.now)
        with live:
            phases.meter = live
            for name, parameter in model.named_parameters():
                live.watch([parameter], Category.WEIGHTS, name.rpartition(".")[0])
                if parameter.grad is not None:
                    live.watch([parameter.grad], Category.GRADIENTS, name.rpartition(".")[0])
            live.watch(model.buffers(), Category.BUFFERS)
            for state in optimizer.state.values() if optimizer else ():
                kept = [value for value in state.values() if isinstance(value, torch.Tensor)]
                live.watch(kept, Category.OPTIMIZER)
            with _watched_gradients(model, live):
                step()
    return live


@contextmanager
def _watched_gradients(model: nn.Module, live: LiveBytes) -> Iterator[None]:
    """Say what a gradient is for as soon as autograd has put it into its place."""

    def watch(parameter: torch.Tensor) -> None:
        if parameter.grad is not None:
            live.watch([parameter.grad], Category.GRADIENTS)

    with ExitStack() as stack:
        for parameter in model.parameters():
            if parameter.requires_grad:
                handle = parameter.register_post_accumulate_grad_hook(watch)
                stack.callback(handle.remove)
        yield


def _flops(model: nn.Module, step: Callable[[], object]) -> StepFlops:
    with Owner(model) as owner:
        phases = _Phases(owner)
        flops = StepFlops(phases.now)
        phases.meter = flops
        with flops:
            step()
    return flops


def _wait(model: nn.Module) -> Callable[[], None]:
    """Return what waits for the model's device."""
    found = next((parameter.device.type for parameter in model.parameters()), "cpu")
    if found == "cpu":
        return lambda: None
    waits: Callable[[], None] = torch.get_device_module(found).synchronize
    return waits
