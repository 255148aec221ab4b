"""A neighbour: a process that keeps one core busy for a while, and idle for a while, in turns.

python -m tests.microbench.neighbour 0.05 0.05 -- COMMAND ARGUMENTS
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

FEWEST_SECONDS = 1e-3


def busy_and_idle(busy: float, idle: float) -> None:
    """Use one core for ``busy`` seconds and sleep for ``idle`` seconds, until it is killed."""
    while True:
        ends = time.perf_counter() + busy
        while time.perf_counter() < ends:
            pass
        time.sleep(idle)


@contextmanager
def neighbour(busy: float, idle: float) -> Iterator[None]:
    """Run a neighbour during the block; without busy time there is none.

    Args:
        busy: seconds for which it uses one core.
        idle: seconds for which it sleeps afterwards.
    """
    if busy < FEWEST_SECONDS:
        yield
        return
    code = f"from tests.microbench.neighbour import busy_and_idle; busy_and_idle({busy}, {idle})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def main() -> int:
    """Run a command beside a neighbour, and return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("busy", type=float)
    parser.add_argument("idle", type=float)
    parser.add_argument("command", nargs="+")
    asked = parser.parse_args()
    with neighbour(asked.busy, asked.idle):
        return subprocess.run(asked.command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
