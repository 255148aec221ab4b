"""The data of a workload: one data set, or one data set per task."""

from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import data


def classes(workload: Workload) -> tuple[int, ...]:
    """Return the number of classes of each task.

    Raises:
        BadInput: a name is unknown, a file does not exist, or a data set does not have the
            requested number of classes.
    """
    if workload.multitask is None:
        return (data.classes(workload.data, workload.classes),)
    asked = workload.multitask.classes or (None,) * len(workload.tasks())
    return tuple(map(data.classes, workload.tasks(), asked))


def load(workload: Workload, seed: int) -> tuple[data.ImageData, ...]:
    """Return the images of each task.

    Raises:
        BadInput: files are missing or cannot be used.
    """
    pairs = zip(workload.tasks(), classes(workload), strict=True)
    return tuple(data.load(name, count, seed) for name, count in pairs)


def fetch(workload: Workload) -> None:
    """Download the published data sets that are missing.

    Raises:
        BadInput: a data set is missing and cannot be downloaded.
    """
    for name in workload.tasks():
        data.fetch(name)
