"""Count instructions and cycles of this process with the kernel's ``perf_event_open``.

No maintained package reads these counters in Python, so the system call is made through ctypes.
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from bsrbench.harness.errors import Unreadable

PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
CALL_NUMBERS = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "ppc64le": 319, "s390x": 331}
# Types and numbers of events (perf_event_open(2)).
HARDWARE, SOFTWARE = 0, 1
CYCLES, INSTRUCTIONS = (HARDWARE, 0), (HARDWARE, 1)
TASK_CLOCK = (SOFTWARE, 1)  # nanoseconds of CPU time; every kernel has it
# The first version of ``struct perf_event_attr``: type, size, config, sample_period, sample_type,
# read_format, flags, and three fields that stay 0.
ATTRIBUTES, ATTRIBUTES_BYTES = struct.Struct("=IIQQQQQIIQ"), 64
TIMES_ENABLED_AND_RUNNING = 0b11
# Threads that start later are counted, too; the kernel and the hypervisor are not.
INHERIT, WITHOUT_KERNEL, WITHOUT_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
READING = struct.Struct("=QQQ")  # count, nanoseconds enabled, nanoseconds running
NO_COUNTERS = {errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP}
NOT_ALLOWED = {errno.EACCES, errno.EPERM}

Event = tuple[int, int]


def perf_event_open(event: Event) -> int:
    """Return a handle of a new counter of this thread and of all threads that it starts later.

    Raises:
        OSError: the kernel refuses.
    """
    number = CALL_NUMBERS.get(platform.machine()) if platform.system() == "Linux" else None
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    flags = INHERIT | WITHOUT_KERNEL | WITHOUT_HYPERVISOR
    kind, config = event
    fields = (kind, ATTRIBUTES_BYTES, config, 0, 0, TIMES_ENABLED_AND_RUNNING, flags, 0, 0, 0)
    call = ctypes.CDLL(None, use_errno=True).syscall
    this_thread, any_core, no_group, no_flags = 0, -1, -1, 0
    handle: int = call(number, ATTRIBUTES.pack(*fields), this_thread, any_core, no_group, no_flags)
    if handle < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return handle


class HardwareCounters:
    """Counters of this process; they must be opened before it starts other threads.

    Args:
        events: what to count.
        open_event: opens the counter of an event.

    Raises:
        Unreadable: the kernel does not give these counters; the message says why.
    """

    def __init__(
        self, events: Sequence[Event], open_event: Callable[[Event], int] = perf_event_open
    ) -> None:
        self._handles: list[int] = []
        try:
            for event in events:
                self._handles.append(open_event(event))
        except OSError as error:
            self.close()
            raise Unreadable(why_refused(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read(self) -> list[int]:
        """Return the count of each event since the counters were opened, over all threads.

        Raises:
            Unreadable: a counter did not count all the time.
        """
        return [_count(os.read(handle, READING.size)) for handle in self._handles]

    def close(self) -> None:
        """Close the counters."""
        while self._handles:
            os.close(self._handles.pop())


def _count(reading: bytes) -> int:
    """Return the count in a reading.

    Raises:
        Unreadable: the counter did not count all the time.
    """
    if len(reading) < READING.size:
        raise Unreadable("the kernel has stopped the processor's counters")
    count, enabled, running = READING.unpack(reading)
    if running < enabled:
        share = running / enabled
        raise Unreadable(
            f"the processor's counters counted {share:.0%} of the time, because other programs use "
            "them, too"
        )
    return int(count)


def why_refused(error: OSError) -> str:
    """Return why the kernel does not give hardware counters, and what would change that."""
    if error.errno in NO_COUNTERS:
        return (
            "this system has no counters of instructions and cycles (most virtual machines hide "
            "those of the processor)"
        )
    if error.errno in NOT_ALLOWED:
        return (
            f"the kernel does not allow reading the processor's counters: {_paranoid()}, and a "
            "container must allow the system call perf_event_open"
        )
    if error.errno == errno.ENOSYS:
        return "this system has no system call perf_event_open"
    return f"perf_event_open failed: {error.strerror or error}"


def _paranoid() -> str:
    try:
        level = PARANOID.read_text(encoding="ascii").strip()
    except OSError:
        return f"{PARANOID} must be at most 2"
    return f"{PARANOID} is {level} and must be at most 2"
