"""Wrappers of the private parts of Python's multiprocessing that this project uses.

This module imports the standard library only, because the fork server starts before anything else
is loaded. ``tests/harness/launch/test_multiprocessing_internals.py`` tests each assumption.
"""

import multiprocessing.forkserver
import multiprocessing.process
import multiprocessing.resource_tracker
import os
from typing import Any


def forkserver_pid() -> int | None:
    """Return the process id of the last fork server; ``None`` if none was started.

    The server may have ended. multiprocessing starts it and has no public function for its id.
    """
    server: Any = multiprocessing.forkserver._forkserver
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
