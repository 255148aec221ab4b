"""Find and kill the processes of a run; as a program, clean up after the run's process has ended.

The program waits until the run's process has ended, for whatever reason. It then kills all
remaining processes of the run and removes its temporary folder. It starts without site packages,
so it imports the standard library only.

A process belongs to a run if it is in the run's control group, or if it was started with the run's
mark in its environment. Both stay the same if a process changes its session or process group.
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
PATIENCE_SECONDS = 60.0  # for processes that the kernel cannot end, for example on a dead disk
PAUSE_SECONDS = 0.01
PROC = Path("/proc")
ROOTS = (Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup"))  # of control groups, version 2
PARENT, STATE, DEAD = 1, 0, "ZX"  # fields after the name in /proc/PID/stat; states after the end


def table() -> dict[int, tuple[int, str]]:
    """Return process id -> (parent, state); empty if there is no ``/proc``."""
    processes = {}
    for place in PROC.iterdir() if PROC.is_dir() else ():
        if place.name.isdigit() and (fields := _fields(place)):
            processes[int(place.name)] = (int(fields[PARENT]), fields[STATE].decode())
    return processes


def state(pid: int) -> str:
    """Return the letter of a process's state (``T`` is stopped); empty if it has ended."""
    fields = _fields(PROC / str(pid))
    return fields[STATE].decode() if fields else ""


def _fields(place: Path) -> list[bytes]:
    try:
        return (place / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # it has ended
        return []


def strays(root: int, running: set[int]) -> dict[int, str]:
    """Return the descendants of a process, except some of its children and their descendants.

    Args:
        root: the process; it adopts the orphans among its descendants.
        running: its children to leave out.

    Returns:
        Process id -> state.
    """
    known = table()
    below: dict[int, list[int]] = {}
    for pid, (parent, _) in known.items():
        below.setdefault(parent, []).append(pid)
    descendants = [pid for pid in below.get(root, []) if pid not in running]
    for pid in descendants:
        descendants += below.get(pid, [])
    return {pid: known[pid][1] for pid in descendants}


def kill(pid: int) -> None:
    """Kill a process, if it exists and this user may kill it."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def make_group(name: str) -> str:
    """Make a control group inside this process's own; return its folder, empty if not possible.

    No group is made if controllers are enabled: a separate group would get a different share of the
    machine, which would change the measurements.
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
    """Put a process and its future children into a group.

    If this fails, only the mark identifies them. A group that was removed is not made again.
    """
    if folder:
        with contextlib.suppress(OSError):
            (Path(folder) / "cgroup.procs").write_text(str(pid), encoding="ascii")


def remove_group(folder: str) -> None:
    """Remove an empty group, and the groups inside it."""
    for place, _, _ in os.walk(folder, topdown=False) if folder else ():
        with contextlib.suppress(OSError):
            Path(place).rmdir()


def _kill_group(folder: str) -> bool:
    """Kill all processes in a group; return whether there were any."""
    if not folder:
        return False
    try:
        populated = "populated 1" in (Path(folder) / "cgroup.events").read_text(encoding="ascii")
        if populated:
            (Path(folder) / "cgroup.kill").write_text("1", encoding="ascii")
    except OSError:
        return False
    return populated


def _kill_marked(mark: str) -> bool:
    """Kill all processes with a mark in their environment; return whether there were any."""
    variable, any_killed = f"{MARK}={mark}".encode(), False
    for pid in table():
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if variable in (PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                any_killed = True
                kill(pid)
    return any_killed


def end_all(mark: str, group: str) -> bool:
    """Kill all processes of a run until none is left; return whether that succeeded."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while _kill_group(group) | _kill_marked(mark):
        if time.monotonic() > ends:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def remove_folder(folder: str) -> None:
    """Remove a folder, even if it contains folders without access permission."""
    shutil.rmtree(folder, ignore_errors=True)
    if not Path(folder).is_dir():
        return
    for place, folders, _ in os.walk(folder):  # top down: make accessible, then enter
        for path in (Path(place) / name for name in folders):
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _wait_for_the_end(parent: int, pipe: int) -> None:
    """Wait until a process has ended, or has closed its end of a pipe."""
    ready = [pipe]
    with contextlib.suppress(OSError):
        ready.append(os.pidfd_open(parent))  # its children may hold the pipe open
    if os.getppid() == parent:
        select.select(ready, [], [])


def main() -> None:
    """Wait for the end of a run, then kill its remaining processes and remove its folder."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    parent, mark, group, folder = sys.argv[1:]
    _wait_for_the_end(int(parent), 0)
    end_all(mark, group)
    remove_group(group)
    remove_folder(folder)


if __name__ == "__main__":
    main()
