"""Evaluation: the logits of a model without gradients, and its accuracy."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bsrbench.harness.model.task_heads import turns
from bsrbench.harness.training.job import Job, to_device
from bsrbench.harness.training.training_step import precision_of
from bsrbench.harness.workload import data
from bsrbench.harness.workload.images.batches import EvaluationBatches
from bsrbench.harness.workload.images.prefetch import in_order
from bsrbench.harness.workload.images.workers import workers

EVALUATION_BATCH = 64


@torch.no_grad()
def logits(job: Job, images: Tensor) -> Tensor:
    """Return the model's logits in the trial's precision, without gradients.

    With several tasks, these are the logits of the current task.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on the job's device.

    Returns:
        [batch, classes].
    """
    with precision_of(job):
        return job.forward(images)


def evaluate_batch(job: Job, images: Tensor) -> None:
    """Run the forward passes of a step's batch without gradients, one per task.

    Args:
        job: the trial.
        images: [batch, 3, side, side] on the job's device; with several tasks, the batches of all
            tasks, one after the other.
    """
    for _, own in zip(turns(job.model), images.split(job.spec.workload.batch), strict=True):
        logits(job, own)


def accuracies(job: Job, splits: Sequence[data.Split]) -> list[float]:
    """Return the accuracy of each task on its split."""
    return [accuracy(job, split) for _, split in zip(turns(job.model), splits, strict=True)]


def accuracy(job: Job, split: data.Split) -> float:
    """Return the fraction of images whose highest logit is the label, for the current task."""
    job.model.eval()
    right = 0
    batches = EvaluationBatches(split, job.preprocess, EVALUATION_BATCH)
    device = job.device.torch_device
    for raw, labels in in_order(batches, range(len(batches)), device, workers(device.type)):
        images, targets = to_device(job, raw, labels)
        right += int((logits(job, images).argmax(1) == targets).sum())
    job.model.train()
    return right / len(split.labels)
