"""The one folder that everything temporary of a run is made in."""

import tempfile
from pathlib import Path

from bsrbench.harness.errors import BadInput

PREFIX = "bsrbench-"
# A socket lies in it, whose whole path may have 107 bytes: "/listener-" and eight letters.
LONGEST_PATH = 107 - len("/listener-12345678")
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes a folder of its own there


def make_run_folder() -> Path:
    """Make a folder where temporary files go, or where its name is short enough for a socket.

    Raises:
        BadInput: none can be made anywhere.
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
        f"no folder for temporary files can be made ({refused}): set TMPDIR to a folder that can "
        f"be written and whose path has at most {LONGEST_PATH - len(PREFIX) - 10} bytes"
    )
