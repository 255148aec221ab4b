"""Run parts of a run at the same time, each on cores of its own where it needs them."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager

from bsrbench.harness.errors import BadInput
from bsrbench.harness.launch.processes.cores import choose

CHECK_BYTES = 2**30  # a check or a prediction takes less: it has no values of tensors


def run_side_by_side(jobs: int, tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks, at most ``jobs`` at the same time.

    Raises:
        BaseException: the first error of a task; tasks that have not begun are left out.
    """
    if jobs == 1:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(task) for task in tasks]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        pool.shutdown(cancel_futures=True)
    for future in done:
        future.result()


def checks_at_a_time(free_bytes: int | None) -> int:
    """Return how many checks and predictions may run at the same time on this machine.

    There is one per usable core while the memory lasts. They are not timed, and their results do
    not depend on what runs beside them.

    Args:
        free_bytes: free memory of this machine; ``None`` if it is not known.
    """
    cores = len(os.sched_getaffinity(0))
    return cores if free_bytes is None else max(1, min(cores, free_bytes // CHECK_BYTES))


def require_cores(jobs: int, threads: int) -> None:
    """Check that there are enough cores for every job.

    Raises:
        BadInput: there are too few cores. The trainings would slow each other down, and no
            record would show it.
    """
    needed, usable = jobs * threads, len(os.sched_getaffinity(0))
    if jobs > 1 and needed > usable:
        raise BadInput(
            f"--jobs {jobs} with {threads} threads each needs {needed} "
            f"cores, but {usable} are usable: reduce --jobs or workload.threads"
        )


class CoreSets:
    """Sets of cores, of which each job takes one.

    Args:
        jobs: number of sets.
        threads: cores of each set.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self._lock = threading.Lock()
        self._free: list[list[int]] = []
        for _ in range(jobs):
            taken = [core for cores in self._free for core in cores]
            self._free.append(choose(threads, taken))

    @contextmanager
    def one(self) -> Iterator[list[int]]:
        """Take a set of cores, and give it back at the end."""
        with self._lock:
            cores = self._free.pop()
        try:
            yield cores
        finally:
            with self._lock:
                self._free.append(cores)
