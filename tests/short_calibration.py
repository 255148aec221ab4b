"""Let a calibration end after a step of each kind: tests need its numbers, but not good ones.

The tests import it, and so do their fork servers, from which the passes of real runs are forked.
"""

from bsrbench.harness.profiler import calibration_pass

calibration_pass.LEAST_SECONDS = 0.01
