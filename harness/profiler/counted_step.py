"""One optimizer step under the counting meter, with the category and module of each tensor."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor

from bsrbench.harness.meters.live_bytes import Category, Life, LiveBytes, Timeline
from bsrbench.harness.meters.operator_modules import OF_NO_MODULE, OperatorModules
from bsrbench.harness.records.sidecar import PackedTimeline, PeakPlace
from bsrbench.harness.torch_internals.eager_internals import FakeTensor
from bsrbench.harness.training.job import Job
from bsrbench.harness.training.kept_storages import owners
from bsrbench.harness.training.training_step import optimizer_step


@dataclass(frozen=True)
class CountedStep:
    """The result of the counting meter for one step.

    Attributes:
        peak: the largest number of bytes alive at once.
        categories: bytes by category at the peak; their sum is the peak.
        modules: bytes by module at the peak.
        peak_place: phase, module and operator at the peak.
        peak_operator: this operator, as an index of the timeline.
        held_after_forward: bytes of saved activations when a backward pass began.
        held_by_module: these bytes by the module that created them.
        left_behind: bytes alive after the step minus bytes alive before it.
        leaves: whether the step created something that is kept after it.
        timeline: bytes after each operator.
        lives: the lifetime of each storage.
        loss: the loss of the step; ``None`` for tensors without values.
    """

    peak: int
    categories: dict[str, int]
    modules: dict[str, dict[str, int]]
    peak_place: PeakPlace
    peak_operator: int
    held_after_forward: int
    held_by_module: dict[str, int]
    left_behind: int
    leaves: bool
    timeline: Timeline
    lives: tuple[Life, ...]
    loss: float | None


def counted_step(
    job: Job,
    batch: tuple[Tensor, Tensor],
    *,
    grain: int = 1,
    enter_phase: Callable[[str], object] = str,
) -> CountedStep:
    """Run one step and count its bytes.

    Args:
        job: the trial.
        batch: images [n, 3, side, side] and labels [n], as for ``optimizer_step``.
        grain: the size of each storage is rounded up to a multiple of it, as an allocator does.
        enter_phase: also called with the name of each phase when it begins.

    Raises:
        ValueError: the step is compiled; under this meter it would run eagerly.
    """
    if job.spec.workload.compiled_step:
        raise ValueError("a compiled step cannot be counted: under this meter it would run eagerly")
    # Only tensors on the job's device count. A method may keep others in the host's memory.
    device = job.device.torch_device.type

    def enter(phase: str) -> None:
        live.enter_phase(phase)
        enter_phase(phase)

    with (
        OperatorModules(job.model) as owner,
        LiveBytes(owner.now, grain=grain, device=device) as live,
    ):
        _watch_held(live, job, batch)
        before = live.now
        with _watched_gradients(live, job):
            loss = optimizer_step(job, *batch, enter_phase=enter)
        _watch_optimizer(live, job)  # the first step has made the optimizer state
        leaves = job.kept.left_behind(live.keep_rest(loss))
        left = live.now - before - live.size_of(loss)
    return _seen(live, left_behind=left, leaves=leaves, loss=loss)


def _seen(live: LiveBytes, *, left_behind: int, leaves: bool, loss: Tensor) -> CountedStep:
    """Return the results of the meter for a finished step."""
    modules, held = live.at_peak(), live.held_by_owner()
    return CountedStep(
        peak=live.peak,
        categories=_by_category(modules),
        modules={name: {str(k): v for k, v in kinds.items()} for name, kinds in modules.items()},
        peak_place=msgspec.convert(live.peak_place(), PeakPlace),
        peak_operator=live.peak_operator,
        held_after_forward=sum(held.values()),
        held_by_module=held,
        left_behind=left_behind,
        leaves=leaves,
        timeline=live.timeline,
        lives=live.lives(),
        loss=None if isinstance(loss, FakeTensor) else loss.item(),
    )


def _watch_held(live: LiveBytes, job: Job, batch: tuple[Tensor, Tensor]) -> None:
    """Count what exists when the step begins, without keeping references to it."""
    _watch_weights(live, job)
    _watch_optimizer(live, job)
    live.watch(batch, Category.INPUTS)
    names = owners(job.model)
    for key, storage in job.find_kept(batch).items():
        live.watch([storage], Category.KEPT, names.get(key, OF_NO_MODULE))


def _watch_weights(live: LiveBytes, job: Job) -> None:
    for name, parameter in job.model.named_parameters():
        live.watch([parameter], Category.WEIGHTS, _module_of(name))
    for name, buffer in job.model.named_buffers():
        live.watch([buffer], Category.BUFFERS, _module_of(name))


def _watch_optimizer(live: LiveBytes, job: Job) -> None:
    names = _parameter_names(job)
    for parameter, kept in job.optimizer_state():
        live.watch(kept, Category.OPTIMIZER, _module_of(names.get(parameter, OF_NO_MODULE)))
    if job.scaler is not None:
        live.watch(job.scaler.held(), Category.OPTIMIZER)


@contextmanager
def _watched_gradients(live: LiveBytes, job: Job) -> Iterator[None]:
    """Set the category of gradients just before an optimizer uses them.

    An optimizer inside the backward pass frees them immediately, so later they do not exist.
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


def packed(timeline: Timeline) -> PackedTimeline:
    """Return a timeline as in sidecars: each name once, only operators that changed the bytes."""
    level = [None, *timeline.live_bytes]
    changed = [i for i, size in enumerate(timeline.live_bytes) if size != level[i]]
    operators, operator = _numbered(timeline.operator, changed)
    phases, phase = _numbered(timeline.phase, changed)
    modules, module = _numbered(timeline.module, changed)
    return PackedTimeline(
        index=tuple(changed),
        live_bytes=tuple(timeline.live_bytes[i] for i in changed),
        operators=operators,
        operator=operator,
        phases=phases,
        phase=phase,
        modules=modules,
        module=module,
    )


def _numbered(names: list[str], places: list[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return every name once, and for each place the index of its name."""
    known = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return tuple(known), tuple(known[names[place]] for place in places)


def at_peak_metrics(step: CountedStep) -> dict[str, int]:
    """Return the bytes of each category as metrics: ``weights_at_peak_bytes`` and so on."""
    return {f"{category}_at_peak_bytes": size for category, size in step.categories.items()}
