"""Let the timed threads run before all other programs of the machine, where the system permits it.

With the usual scheduling, a program that keeps a core busy takes turns with the timed step. A
thread with real-time scheduling (policy ``SCHED_RR``) runs whenever it can. A step then takes about
as long as it does without the other program; memory bandwidth and caches are still shared.
"""

import os
from contextlib import suppress
from pathlib import Path

from bsrbench.harness.errors import BadInput

SETTING = "BSRBENCH_SCHEDULING"
REAL_TIME, USUAL = "real-time", "usual"
LOWEST = 1  # the lowest real-time priority is above all usual threads
TASKS = Path("/proc/self/task")


def schedule_before_others(threads: int) -> str:
    """Give all threads of this process real-time scheduling; return how they are scheduled.

    Nothing is changed if the user asked for usual scheduling, if the system has no real-time
    scheduling or does not permit it, or if there are fewer cores than threads. Threads without a
    core of their own would wait for each other, and a waiting thread that spins keeps its core.

    Args:
        threads: number of threads that compute at the same time.

    Returns:
        ``real-time`` or ``usual``.

    Raises:
        BadInput: ``BSRBENCH_SCHEDULING`` is neither of them.
    """
    asked = os.environ.get(SETTING, REAL_TIME)
    if asked not in {REAL_TIME, USUAL}:
        raise BadInput(
            f"{SETTING} is {asked!r}: set it to {REAL_TIME!r} (timed steps run before all usual "
            f"programs) or {USUAL!r}"
        )
    if asked == USUAL or not hasattr(os, "sched_setscheduler"):
        return USUAL
    if len(os.sched_getaffinity(0)) < threads:
        return USUAL
    try:
        own = os.sched_param(LOWEST)
        os.sched_setscheduler(0, os.SCHED_RR, own)  # threads that start later get it from here
        for task in TASKS.iterdir():
            with suppress(ProcessLookupError):  # the thread has ended
                os.sched_setscheduler(int(task.name), os.SCHED_RR, own)
    except OSError:  # not permitted, or no /proc
        return USUAL
    return REAL_TIME
