"""The data of a workload: one set, or one for each of several tasks."""

from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.workload import data


def classes(workload: Workload) -> tuple[int, ...]:
    """Return the classes of each task.

    Raises:
        BadInput: an unknown name, no such file, or a number the data set does not have.
    """
    if workload.multitask is None:
        return (data.classes(workload.data, workload.classes),)
    asked = workload.multitask.classes or (None,) * len(workload.tasks())
    return tuple(map(data.classes, workload.tasks(), asked))


def load(workload: Workload, seed: int) -> tuple[data.ImageData, ...]:
    """Return the images of each task.

    Raises:
        BadInput: files that are missing or cannot be used.
    """
    pairs = zip(workload.tasks(), classes(workload), strict=True)
    return tuple(data.load(name, count, seed) for name, count in pairs)


def fetch(workload: Workload) -> None:
    """Download published data sets that are not there yet.

    Raises:
        BadInput: one is not there and cannot be downloaded.
    """
    for name in workload.tasks():
        data.fetch(name)
