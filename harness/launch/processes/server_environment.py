"""The environment variables of the fork server."""

import multiprocessing.resource_tracker
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bsrbench.harness.launch.processes import sweeper
from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE, compiler_cache


@contextmanager
def server_environment(mark: str, folder: Path) -> Iterator[None]:
    """Set the environment variables for starting the server, and restore them afterwards.

    Args:
        mark: value of the variable that identifies the processes forked from the server.
        folder: folder of all temporary files.
    """
    changed = {
        # numpy's BLAS would start threads in the server, and a forked process does not get them.
        "OPENBLAS_NUM_THREADS": "1",
        sweeper.MARK: mark,
        "TMPDIR": str(folder),
    }
    if COMPILER_CACHE not in os.environ:
        with suppress(OSError):  # there is no folder for temporary files
            changed[COMPILER_CACHE] = str(compiler_cache())  # later runs reuse compiled kernels
    # The resource tracker starts without the mark: it cleans up and ends by itself.
    multiprocessing.resource_tracker.ensure_running()
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
