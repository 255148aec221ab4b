"""The fork server that every pass is forked from: what it has loaded, and its start.

Loads nothing itself, so that a command can start the server and load torch meanwhile.
"""

import multiprocessing.forkserver
import os
from collections.abc import Iterator
from contextlib import contextmanager

PRELOADED = ["harness.trial", "methods", "torch._dynamo", "timm", "peft"]


def start() -> None:
    """Start the server, unless it runs already; it loads what is slow beside this process."""
    multiprocessing.forkserver.set_forkserver_preload(PRELOADED)
    with one_blas_thread():
        multiprocessing.forkserver.ensure_running()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep numpy's BLAS from starting threads in the server: a fork would lose them."""
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
