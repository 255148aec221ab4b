"""Peak of the CPU allocator, from the events it reports to torch's profiler."""

import itertools
import os
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile

# Kineto reads this when its library starts; without it a CPU-only run prints error lines.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def allocator_rise(action: Callable[[], object]) -> int:
    """Run ``action`` and return how far the CPU allocator rose above its level at the start.

    A block that was allocated before has no event when it is freed, so ``action`` must free
    nothing that it did not allocate: gradients are set to ``None`` at the end of a step, not at
    its start. Allocations of other threads are not seen.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    kineto = profiler.profiler
    if kineto is None or kineto.kineto_results is None:
        raise RuntimeError("torch's profiler returned no events")
    events = [event for event in kineto.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return int(max(itertools.accumulate((event.nbytes() for event in events), initial=0)))
