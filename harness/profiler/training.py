"""The training pass: train, then read the accuracy once."""

from pathlib import Path

from harness.checkpoint import Checkpoint
from harness.reading import Reading
from harness.spec import TrialSpec
from harness.training import Loader, accuracy, begin, final_loss, train
from harness.workload import data

CURVE = ("curve_steps", "curve_seconds", "curve_accuracies")


def training_pass(
    spec: TrialSpec, load: Loader, checkpoint: str = "", checkpoint_seconds: float = 0.0
) -> Reading:
    """Train and read the accuracy once, on the split the spec names.

    Args:
        spec: the trial.
        load: turns a method's name into a method.
        checkpoint: a file to go on from and to keep what a kill would lose; none if empty.
        checkpoint_seconds: how much that is.
    """
    if spec.training is None:
        raise ValueError("a trial without a training part has no training pass")
    job = begin(spec, load)
    images = data.load(spec.workload.data, job.classes, spec.seed)
    keeper = Checkpoint(Path(checkpoint), checkpoint_seconds) if checkpoint else Checkpoint()
    run = train(job, images, spec.training, keeper)
    on_test = spec.training.evaluate == "test"
    metric = "accuracy_top1" if on_test else "validation_accuracy_top1"
    split = images.test if on_test else images.validation
    curve = {name: getattr(run, name) for name in CURVE} if spec.training.evaluate_every else {}
    return Reading(
        {
            metric: accuracy(job, split),
            "training_seconds": run.seconds,
            "final_loss": final_loss(run.losses),
            "trained_parameters": sum(parameter.numel() for parameter in job.trained()),
            **curve,
        },
        notes=[*images.notes, *([keeper.failure] if keeper.failure else [])],
        detail={"losses": run.losses},
        facts={"weights": job.weights, "data": images.facts},
    )
