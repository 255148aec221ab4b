"""Read this process's memory from the kernel: resident size and high-water mark."""

import ctypes
from pathlib import Path

from bsrbench.harness.errors import Unreadable as Unreadable  # noqa: PLC0414 - callers say process.Unreadable

MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of mallopt(3)
PINNED_BYTES = 65536

STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # proc_pid_clear_refs(5)


def pin_malloc() -> None:
    """Make glibc return every block of 64 KiB or more to the kernel as soon as it is freed.

    By default glibc changes this threshold. Then freed memory can stay in the process, and a later
    peak can reuse it without being visible.

    Raises:
        Unreadable: the C library has no ``mallopt``.
    """
    try:
        accepted = ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, PINNED_BYTES)
    except (AttributeError, OSError) as error:
        raise Unreadable(
            "this C library has no mallopt, so the mmap threshold cannot be fixed"
        ) from error
    if accepted != 1:
        raise Unreadable("mallopt refused to fix the mmap threshold")


def trim_malloc() -> None:
    """Return the free memory that glibc keeps to the kernel; do nothing without glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """Return the resident size (VmRSS)."""
    return _status("VmRSS")


def high_water_bytes() -> int:
    """Return the highest resident size since the start or the last reset (VmHWM)."""
    return _status("VmHWM")


def reset_high_water() -> None:
    """Set the high-water mark to the current resident size.

    Raises:
        Unreadable: the kernel does not let this process do so.
    """
    try:
        CLEAR_REFS.write_text(RESET_PEAK, encoding="ascii")
    except OSError as error:
        raise Unreadable(f"{CLEAR_REFS} cannot be written: {error.strerror}") from error


def _status(field: str) -> int:
    try:
        lines = STATUS.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise Unreadable(f"{STATUS} cannot be read: {error.strerror}") from error
    for line in lines:
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise Unreadable(f"{STATUS} has no {field}")
