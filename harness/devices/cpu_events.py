"""torch's profiler of what runs on the CPU, without the error lines of its library."""

import os

from torch.profiler import ProfilerActivity, profile

# Kineto reads this when its library starts; without it a CPU-only run prints error lines.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def cpu_profile(*, memory: bool = False) -> profile:
    """Return a profile to be entered; ``memory`` adds the allocator's events."""
    return profile(activities=[ProfilerActivity.CPU], profile_memory=memory)
