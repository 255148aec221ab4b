"""Every meter in a pass of its own over the same optimizer step."""

from bsrbench.harness.profiler.clock_pass import clock_pass
from bsrbench.harness.profiler.flops_pass import flop_pass
from bsrbench.harness.profiler.memory_pass import allocated_pass, memory_pass
from bsrbench.harness.profiler.process_pass import known_process_pass, process_pass
from bsrbench.harness.profiler.speed_pass import speed_pass
from bsrbench.harness.profiler.training_pass import training_pass

__all__ = [
    "allocated_pass",
    "clock_pass",
    "flop_pass",
    "known_process_pass",
    "memory_pass",
    "process_pass",
    "speed_pass",
    "training_pass",
]
