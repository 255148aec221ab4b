"""What belongs to a run is found and ended: by the run itself, and by a process that outlives it.

Run as a program it waits until the run's process has ended, however that happened, then kills all
that is left of it and removes its temporary folder. It is started without site packages, so it
imports the standard library alone.

A process belongs to a run if it is in the run's control group, or has the run's mark in the
environment that it was started with; no session or process group that it moves to changes either.
"""

import os
import select
import shutil
import signal
import sys
import time

MARK = "BSRBENCH_RUN"  # the variable that holds a run's mark
PATIENCE_SECONDS = 60.0  # for processes that the kernel does not let go, those of a dead disk say
PAUSE_SECONDS = 0.01
ROOTS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")  # of control groups, version 2
PARENT, STATE, DEAD = 1, 0, "ZX"


def table() -> dict[int, tuple[int, str]]:
    """Return the parent and the state of every process; empty where there is no ``/proc``."""
    found = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has ended
                continue
            found[int(name)] = (int(fields[PARENT]), fields[STATE].decode())
    return found


def state(pid: int) -> str:
    """Return the letter of a process's state: ``T`` is stopped; empty if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[STATE].decode()
    except (OSError, IndexError):
        return ""


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
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def make_group(name: str) -> str:
    """Make a control group below this process's own; return its folder, empty if none can be had.

    None is made where controllers are at work: a group of its own would be given another share of
    the machine, and what is measured in it would change.
    """
    try:
        with open("/proc/self/cgroup", encoding="utf-8") as file:
            own = next(line[3:].rstrip("\n") for line in file if line.startswith("0::"))
    except (OSError, StopIteration):
        return ""
    for root in ROOTS:
        base = root + own.rstrip("/")
        folder = f"{base}/{name}"
        try:
            with open(f"{base}/cgroup.subtree_control", encoding="ascii") as file:
                if file.read().strip():
                    continue
            os.mkdir(folder)
        except OSError:
            continue
        if os.access(f"{folder}/cgroup.kill", os.W_OK):
            return folder
        remove_group(folder)
    return ""


def join_group(folder: str, pid: int) -> None:
    """Put a process, and what it will start, into a group; the mark alone tells it if that fails.

    A group that was removed meanwhile is not made again.
    """
    if folder:
        try:
            with open(f"{folder}/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
        except OSError:
            pass


def remove_group(folder: str) -> None:
    """Remove a group that nobody is in, and groups that somebody has made in it."""
    for place, _, _ in os.walk(folder, topdown=False) if folder else ():
        try:
            os.rmdir(place)
        except OSError:
            pass


def _kill_group(folder: str) -> bool:
    """Kill all in a group; return whether there was anybody."""
    if not folder:
        return False
    try:
        with open(f"{folder}/cgroup.events", encoding="ascii") as file:
            if "populated 1" not in file.read():
                return False
        with open(f"{folder}/cgroup.kill", "w", encoding="ascii") as file:
            file.write("1")
    except OSError:
        return False
    return True


def _kill_marked(mark: str) -> bool:
    """Kill all that has a mark in its environment; return whether there was anybody."""
    wanted, found = f"{MARK}={mark}".encode(), False
    for pid in table():
        if pid == os.getpid():
            continue
        try:
            handle = os.pidfd_open(pid)  # held, so that its number cannot become another's
        except OSError:
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found = True
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
        except OSError:  # it has ended, or is another user's
            pass
        finally:
            os.close(handle)
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
    if os.path.isdir(folder):
        for place, _, _ in os.walk(folder):  # from above, and never through a link
            for entry in os.scandir(place):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for_the_end(parent: int, pipe: int) -> None:
    """Return when a process has ended, or has closed its end of a pipe."""
    ready = [pipe]
    try:
        ready.append(os.pidfd_open(parent))  # its children may hold the pipe open
    except OSError:
        pass
    if os.getppid() == parent:
        select.select(ready, [], [])


def main() -> None:
    """Wait for the end of a run, then end what is left of it."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent, mark, group, folder = sys.argv[1:]
    _wait_for_the_end(int(parent), 0)
    end_all(mark, group)
    remove_group(group)
    remove_folder(folder)


if __name__ == "__main__":
    main()
