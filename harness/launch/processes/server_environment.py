"""The environment variables of the fork server."""

import multiprocessing.resource_tracker
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from bsrbench.harness.launch.processes import sweeper
from bsrbench.harness.torch_internals.compiler_internals import COMPILER_CACHE, compiler_cache

NOTHING_MORE: Mapping[str, str] = MappingProxyType({})


@contextmanager
def server_environment(
    mark: str, folder: Path, own: Mapping[str, str] = NOTHING_MORE
) -> Iterator[None]:
    """Set the environment variables for starting the server, and restore them afterwards.

    Args:
        mark: value of the variable that identifies the processes forked from the server.
        folder: folder of all temporary files.
        own: variables of this server alone.
    """
    changed = {
        # numpy's BLAS would start threads in the server, and a forked process does not get them.
        "OPENBLAS_NUM_THREADS": "1",
        sweeper.MARK: mark,
        "TMPDIR": str(folder),
        **own,
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
