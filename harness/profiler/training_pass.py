"""The training pass: train, then read the accuracy once."""

from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean

import torch
from torch import Tensor

from bsrbench.harness.meters.attention_operators import attention_kernel
from bsrbench.harness.model.experts import counted_loads
from bsrbench.harness.records.metric_bounds import CURVE
from bsrbench.harness.records.pass_readings import (
    NOTHING,
    PassReadings,
    WorkloadFacts,
    absent,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.remarks import AbsenceKind, NoteKind
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.spec.recipe import Training
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.evaluation import accuracies
from bsrbench.harness.training.job import Job, Loader, begin
from bsrbench.harness.training.resume import (
    Checkpoint,
    CheckpointRequest,
    Progress,
    UnusableError,
)
from bsrbench.harness.training.step_file import StepFile
from bsrbench.harness.training.training_loop import final_loss, train
from bsrbench.harness.training.training_step import first_forward
from bsrbench.harness.workload import tasks
from bsrbench.harness.workload.data import ImageData
from bsrbench.harness.workload.images.kept_images import kept_for_training, room_for_images

ONE_SIDED = 0.99  # a gate that sends this fraction of its tokens to the same experts is noted


def training_pass(
    spec: TrialSpec, load: Loader, checkpoint: CheckpointRequest | None = None
) -> PassReadings:
    """Train and read the accuracy once, on the split the spec names.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        checkpoint: the checkpoint to resume from and to save; by default, none.
    """
    if spec.training is None:
        raise ValueError("a trial without a training part has no training pass")
    keeper = Checkpoint.asked(checkpoint)
    steps = StepFile(None if checkpoint is None else checkpoint.step_file)
    job, images, run = _trained(spec, spec.training, load, keeper, steps)
    on_test = spec.training.evaluate == "test"
    metric = "accuracy_top1" if on_test else "validation_accuracy_top1"
    splits = [of_task.test if on_test else of_task.validation for of_task in images]
    with counted_loads(job.model) as loads:
        read = accuracies(job, splits)
    curve = {name: getattr(run, name) for name in CURVE} if spec.training.evaluate_every else {}
    notes = [note for of_task in images for note in of_task.notes]
    trained = PassReadings(
        {
            metric: fmean(read),
            "training_seconds": run.seconds,
            "data_wait_share": min(1.0, run.waited_seconds / run.seconds),
            "trained_parameters": job.trained_parameters(),
            **curve,
        },
        notes=notes_of(NoteKind.TRAINING, [*notes, *_of_states(job), *keeper.remarks()]),
        detail=Sidecar(losses=tuple(run.losses), training_began_at=run.began_at),
        facts=WorkloadFacts(job.weights, _facts(spec, images)),
        attention_kernel=attention_kernel(first_forward(job, _some_images(job))),
    )
    by_task = {} if spec.workload.multitask is None else {"accuracy_by_task": read}
    parts = [trained, PassReadings(by_task), _of_experts(job, loads)]
    return joined_readings([*parts, _of_losses(run.losses), _of_scaler(job, len(run.losses))])


def _trained(
    spec: TrialSpec, recipe: Training, load: Loader, keeper: Checkpoint, steps: StepFile
) -> tuple[Job, tuple[ImageData, ...], Progress]:
    """Train from a checkpoint on, or from the beginning if the checkpoint cannot be used."""
    job = begin(spec, load)
    images = _images(spec, recipe)
    try:
        return job, images, train(job, images, recipe, keeper, steps.note)
    except UnusableError as error:
        keeper.forget(str(error))
    del job, images  # they may hold part of the checkpoint, and the next job needs the memory
    return _trained(spec, recipe, load, keeper, steps)


def _images(spec: TrialSpec, recipe: Training) -> tuple[ImageData, ...]:
    """Return the images of each task, decoded and in memory as far as they fit."""
    room = room_for_images()
    positions = range(recipe.steps * spec.workload.batch)
    return tuple(
        kept_for_training(
            of_task, positions, spec.seed, room, reads_curve=recipe.evaluate_every is not None
        )
        for of_task in tasks.load(spec.workload, spec.seed)
    )


def _some_images(job: Job) -> Tensor:
    """Return noise in the shape of one batch of images."""
    workload, side = job.spec.workload, job.preprocess.side
    images = torch.randn(workload.batch, 3, side, side)
    return images.to(job.device.torch_device)


def _facts(spec: TrialSpec, images: tuple[ImageData, ...]) -> Mapping[str, object]:
    """Return the facts about the data for the record; with several tasks, facts by task name."""
    if spec.workload.multitask is None:
        return images[0].facts
    pairs = zip(spec.workload.tasks(), images, strict=True)
    return {name: of_task.facts for name, of_task in pairs}


def _of_states(job: Job) -> list[str]:
    """Return sentences about the states that a method had in its training; empty without states."""
    if not job.current.states or job.spec.training is None:
        return []
    steps, cycle = job.spec.training.steps, job.method.cycle_steps(job.model)
    had = [job.method.state_at(step, job.spec.seed, job.model) for step in range(steps)]
    changes = sum(one != other for one, other in pairwise(had))
    changed = (
        f"what trains changed {changes} times in {steps} steps; each time the optimizer state of "
        "parameters that no longer trained was dropped"
    )
    never = {block for state in job.current.states for block in state}.difference(*had)
    if steps >= cycle:
        return [changed]
    done = f"a cycle of the method has {cycle} steps, of which {steps} were done"
    blocks = ", ".join(map(str, sorted(never)))
    return [changed, f"{done}; these blocks never trained: {blocks}" if never else done]


def _of_losses(losses: list[float | None]) -> PassReadings:
    """Return the final loss, or why there is none."""
    final = final_loss(losses)
    if final is None:
        why = "fp16 overflowed in the forward pass of each of the last batches"
        return absent(AbsenceKind.NOT_AVAILABLE, why, "final_loss")
    return PassReadings({"final_loss": final})


def _of_scaler(job: Job, steps: int) -> PassReadings:
    """Return how many optimizer steps fp16 skipped; empty in another precision.

    Args:
        job: the trained job.
        steps: its training steps; each has one optimizer step per task.
    """
    if job.scaler is None:
        return NOTHING
    skipped, scale = job.skipped_steps(), job.scaler.scale()
    note = (
        f"{skipped} of {steps * len(job.classes)} optimizer steps were skipped, because gradients "
        f"were not finite in fp16; the loss scale was {scale:g} at the end"
    )
    return PassReadings(
        {"skipped_steps": skipped},
        notes=notes_of(NoteKind.TRAINING, [note] if skipped else []),
        detail=Sidecar(loss_scale=scale),
    )


def _of_experts(job: Job, loads: dict[str, list[Tensor]]) -> PassReadings:
    """Return how gates distributed the tokens of the evaluated split; empty without experts."""
    multitask = job.spec.workload.multitask
    if multitask is None or not loads:
        return NOTHING
    busiest, notes = 0.0, []
    shares: dict[str, dict[str, tuple[float, ...]]] = {task: {} for task in multitask.tasks}
    for place, by_task in loads.items():
        for task, rows in zip(multitask.tasks, by_task, strict=True):
            most = rows.topk(multitask.top_k)
            share = int(most.values.sum()) / int(rows.sum())
            busiest = max(busiest, share)
            shares[task][place] = tuple(int(count) / int(rows.sum()) for count in rows)
            if share >= ONE_SIDED:
                notes.append(
                    f"the gate of task {task!r} in {place} sends {100 * share:.4g} % of its tokens "
                    f"to the same {multitask.top_k} of {multitask.experts} experts: "
                    f"{', '.join(map(str, sorted(most.indices.tolist())))}"
                )
    return PassReadings(
        {"busiest_experts_share": busiest},
        notes=notes_of(NoteKind.TRAINING, notes),
        detail=Sidecar(expert_loads=shares),
    )
