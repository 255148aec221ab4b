"""Wrappers of the private parts of Python's multiprocessing that this project uses.

This module imports the standard library only, because the fork server starts before anything else
is loaded. ``tests/harness/launch/test_multiprocessing_internals.py`` tests each assumption.
"""

import multiprocessing.forkserver
import multiprocessing.process
import multiprocessing.resource_tracker
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.forkserver import ForkServer
from typing import Any

ONE_AT_A_TIME = threading.RLock()  # held while multiprocessing forks from a chosen server


def main_forkserver() -> ForkServer:
    """Return the fork server that multiprocessing uses by itself."""
    server: ForkServer = multiprocessing.forkserver._forkserver
    return server


def another_forkserver() -> ForkServer:
    """Return a fork server beside the main one; it does not run yet."""
    return ForkServer()


@contextmanager
def forking_from(forkserver: ForkServer) -> Iterator[None]:
    """Let ``Process.start`` fork from this server; multiprocessing has no public choice of it."""
    module: Any = multiprocessing.forkserver
    with ONE_AT_A_TIME:
        before = module.connect_to_new_process
        module.connect_to_new_process = forkserver.connect_to_new_process
        try:
            yield
        finally:
            module.connect_to_new_process = before


def forkserver_pid(forkserver: ForkServer | None = None) -> int | None:
    """Return the process id of a fork server; ``None`` if it was not started.

    The server may have ended. multiprocessing starts it and has no public function for its id.

    Args:
        forkserver: the server; by default the main one.
    """
    server: Any = forkserver or main_forkserver()
    number: int | None = server._forkserver_pid
    return number


def make_sockets_in(folder: str) -> None:
    """Make multiprocessing create its sockets in a folder; it has no public option for this."""
    process: Any = multiprocessing.process.current_process()
    process._config["tempdir"] = folder


def close_inherited_pipes() -> None:
    """Close the pipes that keep fork server and resource tracker alive, in a child of the server.

    multiprocessing passes one end of each pipe to every child and has no public way to close it.
    """
    server: Any = multiprocessing.forkserver._forkserver
    tracker: Any = multiprocessing.resource_tracker._resource_tracker
    for owner, name in ((server, "_forkserver_alive_fd"), (tracker, "_fd")):
        handle = getattr(owner, name)
        if handle is not None:
            os.close(handle)
            setattr(owner, name, None)
