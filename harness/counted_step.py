"""One optimizer step under the counting meter, with what each tensor is for and whose it is."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.meters.counted import Category, LiveBytes, Timeline
from harness.owner import OF_NO_MODULE, Owner
from harness.record import Value
from harness.training import Job, optimizer_step


@dataclass(frozen=True)
class CountedStep:
    """What the counting meter saw of one step.

    Attributes:
        peak: the most bytes alive at once.
        categories: bytes by category at the peak; their sum is the peak.
        modules: the same by module.
        peak_place: phase, module and operator that made the peak.
        peak_operator: that operator, as an index of the timeline.
        held_after_forward: bytes of saved activations when a backward pass began.
        held_by_module: the same by the module that made them.
        left_behind: bytes alive after the step that were not alive before it.
        timeline: bytes after each operator.
        loss: of the step; a fake one has no value.
    """

    peak: int
    categories: dict[str, int]
    modules: dict[str, dict[str, int]]
    peak_place: dict[str, str]
    peak_operator: int
    held_after_forward: int
    held_by_module: dict[str, int]
    left_behind: int
    timeline: Timeline
    loss: Tensor


def counted_step(job: Job, batch: tuple[Tensor, Tensor], *, grain: int = 1) -> CountedStep:
    """Do one step and count it; ``grain`` rounds every storage up, as an allocator would.

    Raises:
        ValueError: the step is compiled; watched, it would run eagerly, and another be counted.
    """
    if job.spec.workload.compiled_step:
        raise ValueError("a compiled step cannot be counted: watched, it would run eagerly")
    # What a method keeps in the host's memory is none of an accelerator's.
    device = job.device.torch_device.type
    with Owner(job.model) as owner, LiveBytes(owner.now, grain=grain, device=device) as live:
        _watch_weights(live, job)
        _watch_optimizer(live, job)
        live.watch(batch, Category.INPUTS)
        before = live.now
        with _watched_gradients(live, job):
            loss = optimizer_step(job, *batch, enter_phase=live.enter_phase)
        left = live.now - before - live.size_of(loss)
        _watch_optimizer(live, job)  # the first step has made it
        modules = live.at_peak()
    return CountedStep(
        peak=live.peak,
        categories=_by_category(modules),
        modules={name: {str(k): v for k, v in kinds.items()} for name, kinds in modules.items()},
        peak_place=live.peak_place(),
        peak_operator=live.peak_operator,
        held_after_forward=live.held_after_forward,
        held_by_module=live.held_by_owner,
        left_behind=left,
        timeline=live.timeline,
        loss=loss,
    )


def _watch_weights(live: LiveBytes, job: Job) -> None:
    for name, parameter in job.model.named_parameters():
        live.watch([parameter], Category.WEIGHTS, _module_of(name))
    for name, buffer in job.model.named_buffers():
        live.watch([buffer], Category.BUFFERS, _module_of(name))


def _watch_optimizer(live: LiveBytes, job: Job) -> None:
    names = _parameter_names(job)
    for parameter, kept in job.optimizer_state():
        live.watch(kept, Category.OPTIMIZER, _module_of(names.get(parameter, OF_NO_MODULE)))


@contextmanager
def _watched_gradients(live: LiveBytes, job: Job) -> Iterator[None]:
    """Say what gradients are for as an optimizer is about to use them.

    One inside the backward pass frees them right after; later there is nothing to see.
    """
    names = _parameter_names(job)

    def watch(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if parameter.grad is not None:
                live.watch([parameter.grad], Category.GRADIENTS, _module_of(names[parameter]))

    handles = [optimizer.register_step_pre_hook(watch) for optimizer in job.optimizers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _parameter_names(job: Job) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in job.model.named_parameters()}


def _module_of(parameter_name: str) -> str:
    return parameter_name.rpartition(".")[0]


def _by_category(modules: dict[str, dict[Category, int]]) -> dict[str, int]:
    total = Counter({str(category): 0 for category in Category})
    for kinds in modules.values():
        total.update({str(category): size for category, size in kinds.items()})
    return dict(total)


def packed(timeline: Timeline) -> dict[str, Any]:
    """Return a timeline as JSON values: names once, and only operators that changed the level.

    ``live_bytes``, ``operator``, ``phase`` and ``module`` are lists of one length; the last three
    index ``operators``, ``phases`` and ``modules``. ``index`` is the operator's place in the step.
    """
    level = [None, *timeline.live_bytes]
    changed = [i for i, size in enumerate(timeline.live_bytes) if size != level[i]]
    out: dict[str, Any] = {
        "index": changed,
        "live_bytes": [timeline.live_bytes[i] for i in changed],
    }
    for name in ("operator", "phase", "module"):
        values = getattr(timeline, name)
        known = {value: place for place, value in enumerate(dict.fromkeys(values))}
        out[f"{name}s"] = list(known)
        out[name] = [known[values[i]] for i in changed]
    return out


def at_peak_metrics(step: CountedStep) -> dict[str, Value]:
    """Return the category split as metrics, ``weights_at_peak_bytes`` and so on."""
    return {f"{category}_at_peak_bytes": size for category, size in step.categories.items()}
