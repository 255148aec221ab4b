"""What belongs to a run is found and ended: by the run itself, and by a process that outlives it.

Run as a program it waits until the run's process has ended, however that happened, then kills all
that is left of it and removes its temporary folder. It is started without site packages, so it
imports the standard library alone.

A process belongs to a run if it is in the run's control group, or has the run's mark in the
environment that it was started with; no session or process group that it moves to changes either.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

MARK = "BSRBENCH_RUN"  # the variable that holds a run's mark
PATIENCE_SECONDS = 60.0  # for processes that the kernel does not let go, those of a dead disk say
PAUSE_SECONDS = 0.01
PROC = Path("/proc")
ROOTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))  # of control groups, version 2
PARENT, STATE, DEAD = 1, 0, "ZX"  # places in what /proc says of a process, after its name; letters


def table() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of every process; empty where there is no ``/proc``."""
    found = {}
    for place in PROC.iterdir() if PROC.is_dir() else ():
        if place.name.isdigit() and (fields := _fields(place)):
            found[int(place.name)] = (int(fields[PARENT]), fields[STATE].decode())
    return found


def state(pid: int) -> str:
    """Return the letter of a process's state: ``T`` is stopped; empty if it is gone."""
    fields = _fields(PROC / str(pid))
    return fields[STATE].decode() if fields else ""


def _fields(place: Path) -> list[bytes]:
    try:
        return (place / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # it has ended
        return []


def strays(root: int, running: set[int]) -> dict[int, str]:
    """Return the processes below one, but for some of its children and what is below those.

    Args:
        root: the process; orphans below it come to it.
        running: children of it that are to go on.

    Returns:
        Their states, by their numbers.
    """
    known = table()
    below: dict[int, list[int]] = {}
    for pid, (parent, _) in known.items():
        below.setdefault(parent, []).append(pid)
    found = [pid for pid in below.get(root, []) if pid not in running]
    for pid in found:
        found += below.get(pid, [])
    return {pid: known[pid][1] for pid in found}


def kill(pid: int) -> None:
    """Kill a process, if it is there and may be killed."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def make_group(name: str) -> str:
    """Make a control group below this process's own; return its folder, empty if none can be had.

    None is made where controllers are at work: a group of its own would be given another share of
    the machine, and what is measured in it would change.
    """
    try:
        lines = (PROC / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for own in (line.removeprefix("0::/") for line in lines if line.startswith("0::/")):
        for base in (root / own for root in ROOTS):
            folder = base / name
            with contextlib.suppress(OSError):
                if not (base / "cgroup.subtree_control").read_text(encoding="ascii").strip():
                    folder.mkdir()
                    if os.access(folder / "cgroup.kill", os.W_OK):
                        return str(folder)
                    folder.rmdir()
    return ""


def join_group(folder: str, pid: int) -> None:
    """Put a process, and what it will start, into a group; if that fails the mark alone tells it.

    A group that was removed meanwhile is not made again.
    """
    if folder:
        with contextlib.suppress(OSError):
            (Path(folder) / "cgroup.procs").write_text(str(pid), encoding="ascii")


def remove_group(folder: str) -> None:
    """Remove a group that nobody is in, and groups that somebody has made in it."""
    for place, _, _ in os.walk(folder, topdown=False) if folder else ():
        with contextlib.suppress(OSError):
            Path(place).rmdir()


def _kill_group(folder: str) -> bool:
    """Kill all in a group; return whether there was anybody."""
    if not folder:
        return False
    try:
        anybody = "populated 1" in (Path(folder) / "cgroup.events").read_text(encoding="ascii")
        if anybody:
            (Path(folder) / "cgroup.kill").write_text("1", encoding="ascii")
    except OSError:
        return False
    return anybody


def _kill_marked(mark: str) -> bool:
    """Kill all that has a mark in its environment; return whether there was anybody."""
    wanted, found = f"{MARK}={mark}".encode(), False
    for pid in table():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found = True
                kill(pid)
    return found


def end_all(mark: str, group: str) -> bool:
    """Kill all that belongs to a run until nothing is left of it, and return whether that is so."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while _kill_group(group) | _kill_marked(mark):
        if time.monotonic() > ends:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def remove_folder(folder: str) -> None:
    """Remove a folder, though something may have been made in it that nobody may enter."""
    shutil.rmtree(folder, ignore_errors=True)
    if not Path(folder).is_dir():
        return
    for place, folders, _ in os.walk(folder):  # from above: each is opened before it is entered
        for path in (Path(place) / name for name in folders):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for_the_end(parent: int, pipe: int) -> None:
    """Return when a process has ended, or has closed its end of a pipe."""
    ready = [pipe]
    with contextlib.suppress(OSError):
        ready.append(os.pidfd_open(parent))  # its children may hold the pipe open
    if os.getppid() == parent:
        select.select(ready, [], [])


def main() -> None:
    """Wait for the end of a run, then end what is left of it."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    parent, mark, group, folder = sys.argv[1:]
    _wait_for_the_end(int(parent), 0)
    end_all(mark, group)
    remove_group(group)
    remove_folder(folder)


if __name__ == "__main__":
    main()
