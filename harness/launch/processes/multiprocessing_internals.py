"""The unpublished parts of Python's multiprocessing that this project relies on, under our names.

Loads the standard library only: a server is started before anything else is loaded.
``tests/harness/launch/test_multiprocessing_internals.py`` holds each to what is relied on.
"""

import multiprocessing.forkserver
import multiprocessing.process
import multiprocessing.resource_tracker
import os
from typing import Any


def forkserver_pid() -> int | None:
    """Return the process number of the fork server that was started last, which may have ended.

    ``None`` before the first. multiprocessing starts it out of sight and publishes no number.
    """
    server: Any = multiprocessing.forkserver._forkserver
    number: int | None = server._forkserver_pid
    return number


def make_sockets_in(folder: str) -> None:
    """Let multiprocessing make its sockets in a folder; it offers no choice, and makes its own."""
    process: Any = multiprocessing.process.current_process()
    process._config["tempdir"] = folder


def close_inherited_pipes() -> None:
    """Close the pipes that keep fork server and resource tracker alive, in a child of the server.

    multiprocessing hands every child one end of each, and offers no way to close them.
    """
    server: Any = multiprocessing.forkserver._forkserver
    tracker: Any = multiprocessing.resource_tracker._resource_tracker
    for owner, name in ((server, "_forkserver_alive_fd"), (tracker, "_fd")):
        handle = getattr(owner, name)
        if handle is not None:
            os.close(handle)
            setattr(owner, name, None)
