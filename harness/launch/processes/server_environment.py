"""The environment variables of the fork server."""

import multiprocessing.resource_tracker
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bsrbench.harness.launch.processes import sweeper

KEPT_KERNELS = "TORCHINDUCTOR_CACHE_DIR"


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
    if KEPT_KERNELS not in os.environ and (kept := _inductors_own_cache()):
        changed[KEPT_KERNELS] = kept  # torch reuses compiled kernels in later runs
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


def _inductors_own_cache() -> str:
    """Return torch's folder of compiled kernels in this process; empty if there is none."""
    user = "".join("_" if letter in '\\/:*?"<>|' else letter for letter in _user())
    try:
        return f"{tempfile.gettempdir()}/torchinductor_{user}"
    except OSError:
        return ""


def _user() -> str:
    import getpass  # noqa: PLC0415 - importing it reads the list of users

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # this user has a number, but no name
        return str(os.getuid())
