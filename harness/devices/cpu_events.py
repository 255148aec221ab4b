"""Run torch's profiler on the CPU, without the error lines of its library."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch.profiler import ProfilerActivity, profile

# Kineto reads this variable when it is loaded. Without it, a CPU-only run prints error lines.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


@contextmanager
def cpu_profile(*, memory: bool = False) -> Iterator[profile]:
    """Profile the block; ``memory`` adds the allocator's events."""
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=memory)
    with ExitStack() as opened:
        with warnings.catch_warnings():
            # torch 2.11 warns about a second profiling cycle, although there is only one.
            warnings.filterwarnings("ignore", "Warning: Profiler clears events", UserWarning)
            opened.enter_context(profiler)
        yield profiler
