"""Every meter in a pass of its own over the same optimizer step."""

from harness.profiler.clock import clock_pass
from harness.profiler.flops import flop_pass
from harness.profiler.memory import allocated_pass, memory_pass
from harness.profiler.process import known_process_pass, process_pass
from harness.profiler.speed import speed_pass
from harness.profiler.training import training_pass

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
