"""Every meter in a pass of its own over the same step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness import vit
from harness.meters import clock, process
from harness.meters.allocated import allocator_rise
from harness.meters.counted import LiveBytes, storage_bytes
from harness.meters.flops import StepFlops
from harness.method import Unsupported
from harness.record import Value
from harness.spec import TrialSpec
from harness.training import (
    Job,
    Loader,
    accuracy,
    begin,
    logits,
    set_learning_rate,
    train,
    training_step,
)

WARMUP_STEPS = 2  # the first makes the optimizer's state, the second is steady
PROFILE_LEARNING_RATE = 1e-6  # the time and memory of a step do not depend on it


@dataclass(frozen=True)
class Reading:
    """What one pass read.

    Attributes:
        measurements: metric -> value.
        missing: metric -> why there is no value.
        notes: what a reader of the numbers must know.
        detail: what goes into the sidecar file.
    """

    measurements: dict[str, Value]
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    detail: dict[str, Any] = field(default_factory=dict)


def memory_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Read the counted peak twice and the allocator's peak once, each over its own steady step."""
    job, batch = _warmed_up(spec, load)
    (first, left), (second, left_again) = (_counted_peak(job, batch) for _ in range(2))
    notes = []
    if first != second:
        notes.append(f"counted peak differs between identical steps: {first} and {second} bytes")
    if left > 0 and left_again > 0:
        notes.append(f"steps leave tensors behind: {left} and then {left_again} bytes")
    peaks: dict[str, Value] = {"peak_counted_bytes": first}
    job.device.reset_peak()
    if job.device.torch_device.type == "cpu":
        held = storage_bytes([*job.held(), *batch])
        peaks["peak_allocated_bytes"] = held + allocator_rise(lambda: training_step(job, *batch))
    else:
        training_step(job, *batch)
        peaks |= job.device.peak_bytes()
    return Reading(peaks, notes=notes)


def process_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Read the kernel's high-water mark of a steady step above the level before the model."""
    metric = "peak_process_bytes"
    if spec.workload.device != "cpu":
        return Reading({})
    try:
        process.pin_malloc()
        _touch_libraries()
        before = process.resident_bytes()
        job, batch = _warmed_up(spec, load)
        process.reset_high_water()
        training_step(job, *batch)
        peak = process.high_water_bytes() - before
    except process.Unreadable as error:
        return Reading({}, missing={metric: str(error)})
    return Reading({metric: peak}, detail={"process_baseline_bytes": before})


def _touch_libraries() -> None:
    """Run one small step of everything a transformer uses, so that its code is resident."""
    layers = nn.Sequential(
        nn.Conv2d(3, 64, 4, 4), nn.Flatten(2), nn.LayerNorm(16), nn.Linear(16, 64)
    )
    x = layers(torch.ones(2, 3, 16, 16)).unsqueeze(1)
    mixed = nn.functional.scaled_dot_product_attention(x, x, x)
    nn.functional.cross_entropy(
        nn.functional.gelu(mixed).mean((1, 2)), torch.tensor([0, 1])
    ).backward()
    torch.optim.SGD(layers.parameters(), lr=0.1, momentum=0.9).step()


def flop_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Count the FLOPs of one step, the trained parameters, and the tokens each block passes on."""
    tokens: list[int] = []
    job = begin(spec, load)
    watchers = _watch_tokens(job.model, tokens)
    batch = _noise_batch(job)
    with StepFlops() as flops:
        training_step(job, *batch, enter_phase=flops.enter_phase)
    for watcher in watchers:
        watcher.remove()
    read: dict[str, Value] = {
        "forward_flop": flops.by_phase["forward"],
        "step_flop": sum(flops.by_phase.values()),
        "trained_parameters": sum(parameter.numel() for parameter in job.trained()),
        "total_parameters": sum(parameter.numel() for parameter in job.model.parameters()),
    }
    missing = {}
    if watchers:
        read["tokens_after_block"] = tokens[: len(watchers)]
    else:
        missing["tokens_after_block"] = "the model has no transformer blocks that we know"
    detail = {
        "flop_by_phase": dict(flops.by_phase),
        "flop_by_operator": dict(flops.by_operator.most_common()),
        "uncounted_operator_calls": dict(flops.uncounted.most_common()),
    }
    return Reading(read, missing=missing, detail=detail)


def _watch_tokens(model: nn.Module, tokens: list[int]) -> list[Any]:
    """Append the token count of every MLP's output, which is what the block passes on."""

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        tokens.append(output.shape[1])

    try:
        return [block.mlp.register_forward_hook(note) for block in vit.blocks(model)]
    except Unsupported:
        return []


def clock_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Time steps and evaluation of one visit of the round group; no meter is attached."""
    if spec.profile is None:
        raise ValueError("a trial without a profile part has no clock pass")
    job = begin(spec, load)
    batch = _noise_batch(job)
    for _ in range(spec.profile.warmup_steps):
        training_step(job, *batch)
    wait = job.device.synchronise
    steps = clock.seconds_each(lambda: training_step(job, *batch), spec.profile.steps, wait)
    job.model.eval()
    logits(job, batch[0])
    evaluations = clock.seconds_each(lambda: logits(job, batch[0]), spec.profile.steps, wait)
    return Reading({"step_seconds": steps, "evaluation_seconds": evaluations})


def training_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Train and read the accuracy once, on the split the spec names."""
    if spec.training is None:
        raise ValueError("a trial without a training part has no training pass")
    job = begin(spec, load)
    run = train(job, spec.training)
    on_test = spec.training.evaluate == "test"
    metric = "accuracy_top1" if on_test else "validation_accuracy_top1"
    split = job.images.test if on_test else job.images.validation
    return Reading(
        {
            metric: accuracy(job, split),
            "training_seconds": run.seconds,
            "final_loss": run.final_loss(),
            "trained_parameters": sum(parameter.numel() for parameter in job.trained()),
        },
        detail={"losses": run.losses},
    )


PASSES: dict[str, Callable[[TrialSpec, Loader], Reading]] = {
    "memory": memory_pass,
    "process": process_pass,
    "flops": flop_pass,
    "clock": clock_pass,
    "training": training_pass,
}


def _warmed_up(spec: TrialSpec, load: Loader) -> tuple[Job, tuple[Tensor, Tensor]]:
    job = begin(spec, load)
    batch = _noise_batch(job)
    for _ in range(WARMUP_STEPS):
        training_step(job, *batch)
    return job, batch


def _noise_batch(job: Job) -> tuple[Tensor, Tensor]:
    """Return a batch of seeded noise: what is profiled does not depend on what images show."""
    set_learning_rate(job, PROFILE_LEARNING_RATE)
    generator = torch.Generator().manual_seed(job.spec.seed)
    count, side = job.spec.workload.batch, job.enlarge.side
    images = torch.randn(count, 3, side, side, generator=generator)
    labels = torch.randint(0, job.images.classes, (count,), generator=generator)
    target = job.device.torch_device
    return images.to(target), labels.to(target)


def _counted_peak(job: Job, batch: tuple[Tensor, Tensor]) -> tuple[int, int]:
    """Return the peak of one step, and how many more bytes are alive after it than before."""
    with LiveBytes() as live:
        live.watch([*job.held(), *batch])
        before = live.now
        training_step(job, *batch)
        return live.peak, live.now - before
