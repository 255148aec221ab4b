"""Wall-clock time of an action, sample by sample."""

import time
from collections.abc import Callable


def seconds_each(
    action: Callable[[], object], times: int, synchronise: Callable[[], None]
) -> list[float]:
    """Run ``action`` and return the seconds of each run.

    Args:
        action: what to time.
        times: how often.
        synchronise: waits for the device; called before the clock is read, both times.
    """
    samples = []
    for _ in range(times):
        synchronise()
        start = time.perf_counter()
        action()
        synchronise()
        samples.append(time.perf_counter() - start)
    return samples
