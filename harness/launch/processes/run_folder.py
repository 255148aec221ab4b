"""The folder of all temporary files of a run."""

import tempfile
from pathlib import Path

from bsrbench.harness.errors import BadInput

PREFIX = "bsrbench-"
# The folder contains a socket, whose name is "listener-" and eight letters. The path of a socket
# may have at most 107 bytes.
LONGEST_PATH = 107 - len("/listener-12345678")
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own there


def make_run_folder() -> Path:
    """Make the folder in the default place for temporary files, or where its path is short enough.

    Raises:
        BadInput: no such folder can be made.
    """
    refused = "its path is too long for a socket"
    for place in (None, *OTHERS):
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            refused = error.strerror or str(error)
            continue
        if len(bytes(folder)) <= LONGEST_PATH:
            return folder
        folder.rmdir()
    raise BadInput(
        f"no folder for temporary files can be made ({refused}): set TMPDIR to a writable folder "
        f"whose path has at most {LONGEST_PATH - len(PREFIX) - 10} bytes"
    )
