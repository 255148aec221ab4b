"""torch's profiler of what runs on the CPU, without the error lines of its library."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch.profiler import ProfilerActivity, profile

# Kineto reads this when its library starts; without it a CPU-only run prints error lines.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


@contextmanager
def cpu_profile(*, memory: bool = False) -> Iterator[profile]:
    """Make a profile while this is open; ``memory`` adds the allocator's events."""
    made = profile(activities=[ProfilerActivity.CPU], profile_memory=memory)
    with ExitStack() as opened:
        with warnings.catch_warnings():
            # torch 2.11 warns of what a second cycle would do, though there is one only.
            warnings.filterwarnings("ignore", "Warning: Profiler clears events", UserWarning)
            opened.enter_context(made)
        yield made
