"""The number of workers that prepare images while the steps run."""

import os

from bsrbench.harness.errors import BadInput
from bsrbench.harness.workload.images.kept_images import MOST_THREADS, cores_at_hand

WORKERS = "BSRBENCH_WORKERS"


def requested_workers() -> int | None:
    """Return the number that ``BSRBENCH_WORKERS`` says; ``None`` if it says nothing.

    Raises:
        BadInput: the variable is not a number.
    """
    asked = os.environ.get(WORKERS)
    if not asked:
        return None
    if not asked.isdecimal():
        raise BadInput(f"{WORKERS}={asked!r}: expected a number of workers, 0 or more")
    return int(asked)


def workers(device_type: str) -> int:
    """Return the number of workers; 0 means that images are prepared between the steps.

    The steps of a CPU use all cores that they were given, so a worker would only take turns with
    them. A GPU leaves the cores idle, but for the one that submits its work.

    Args:
        device_type: ``cpu``, ``cuda`` ...

    Raises:
        BadInput: ``BSRBENCH_WORKERS`` is not a number.
    """
    requested = requested_workers()
    if requested is not None:
        return requested
    return 0 if device_type == "cpu" else max(1, min(cores_at_hand() - 1, MOST_THREADS))
