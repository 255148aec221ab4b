"""The training pass: train, then read the accuracy once."""

from harness.reading import Reading
from harness.spec import TrialSpec
from harness.training import Loader, accuracy, begin, train
from harness.workload import data


def training_pass(spec: TrialSpec, load: Loader) -> Reading:
    """Train and read the accuracy once, on the split the spec names."""
    if spec.training is None:
        raise ValueError("a trial without a training part has no training pass")
    job = begin(spec, load)
    images = data.load(spec.workload.data, job.classes, spec.seed)
    run = train(job, images, spec.training)
    on_test = spec.training.evaluate == "test"
    metric = "accuracy_top1" if on_test else "validation_accuracy_top1"
    split = images.test if on_test else images.validation
    return Reading(
        {
            metric: accuracy(job, split),
            "training_seconds": run.seconds,
            "final_loss": run.final_loss(),
            "trained_parameters": sum(parameter.numel() for parameter in job.trained()),
        },
        detail={"losses": run.losses},
    )
