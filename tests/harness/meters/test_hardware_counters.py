"""The counters of perf_event_open: what they count, and why a kernel refuses them."""

import errno
import os
import resource
import threading
import time
from pathlib import Path

import pytest

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters import hardware_counters
from bsrbench.harness.meters.hardware_counters import (
    CYCLES,
    INSTRUCTIONS,
    READING,
    TASK_CLOCK,
    HardwareCounters,
    perf_event_open,
)


def refusing(code):
    def open_event(_):
        raise OSError(code, os.strerror(code))

    return open_event


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOENT, "this system has no counters of instructions and cycles"),
        (errno.EOPNOTSUPP, "this system has no counters of instructions and cycles"),
        (errno.EACCES, "is 3 and must be at most 2"),
        (errno.EPERM, "a container must allow the system call perf_event_open"),
        (errno.ENOSYS, "this system has no system call perf_event_open"),
        (errno.EMFILE, "perf_event_open failed: Too many open files"),
    ],
)
def test_a_refusal_says_why(code, reason, tmp_path, monkeypatch):
    (tmp_path / "level").write_text("3\n")
    monkeypatch.setattr(hardware_counters, "PARANOID", tmp_path / "level")

    with pytest.raises(Unreadable) as refused:
        HardwareCounters([CYCLES], refusing(code))

    assert reason in str(refused.value)


def test_counters_that_were_opened_before_a_refusal_are_closed(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    handles = []

    def open_event(event):
        if event == INSTRUCTIONS:
            raise OSError(errno.ENOENT, "")
        handles.append(os.open(tmp_path / "file", os.O_RDONLY))
        return handles[0]

    with pytest.raises(Unreadable):
        HardwareCounters([CYCLES, INSTRUCTIONS], open_event)

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handles[0])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (READING.pack(70, 100, 25), "counted 25% of the time"),
        (b"", "the kernel has stopped"),
    ],
)
def test_a_count_of_a_part_of_the_time_is_not_a_count(content, reason, tmp_path):
    (tmp_path / "file").write_bytes(content)
    opened = HardwareCounters([CYCLES], lambda _: os.open(tmp_path / "file", os.O_RDONLY))

    with opened as counters, pytest.raises(Unreadable, match=reason):
        counters.read()


def burn(seconds):
    ends = time.thread_time() + seconds
    while time.thread_time() < ends:
        pass


def burn_in_threads():
    """Use 0.2 s of CPU time in this thread, and as much in two that have ended."""
    threads = [threading.Thread(target=burn, args=(0.2,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    burn(0.2)
    for thread in threads:
        thread.join()


def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def stolen():
    """Return the seconds in which the host ran others in place of this machine; a tick more."""
    total = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(total[8]) + 1) / os.sysconf("SC_CLK_TCK")


def in_a_child(function):
    """Return what a function returns in a forked child, which has no other threads."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(sender, repr(function()).encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return eval(text)  # noqa: S307 - numbers that this test wrote


def three_meters():
    """Return the CPU seconds of the same span by the kernel's event, the clock, and getrusage."""
    with HardwareCounters([TASK_CLOCK]) as counters:
        (first,), clock, usage = counters.read(), time.process_time(), used()
        burn_in_threads()
        (last,), after, more = counters.read(), time.process_time(), used()
    return (last - first) / 1e9, after - clock, more - usage


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_three_meters_of_cpu_time_agree_over_all_threads():
    """A busy machine makes the span longer, and not its CPU time.

    The kernel's event alone includes time in which the host ran another virtual machine.
    """
    try:
        os.close(perf_event_open(TASK_CLOCK))
    except OSError as error:
        pytest.skip(f"no perf_event_open: {error.strerror}")
    before = stolen()
    event, clock, usage = in_a_child(three_meters)
    lost = stolen() - before

    assert 0.6 <= clock < 0.9
    assert clock * 0.98 <= event <= clock * 1.02 + lost
    assert usage == pytest.approx(clock, rel=0.02, abs=0.02)  # in ticks of 10 ms on old kernels


def has_counters():
    try:
        HardwareCounters([INSTRUCTIONS, CYCLES]).close()
    except Unreadable:
        return False
    return True


@pytest.mark.skipif(not has_counters(), reason="the kernel gives no hardware counters here")
def test_instructions_grow_with_the_work():
    with HardwareCounters([INSTRUCTIONS, CYCLES]) as counters:
        start = counters.read()
        sum(range(100_000))
        once = counters.read()
        sum(range(1_000_000))
        ten_times = counters.read()

    assert all(a < b < c for a, b, c in zip(start, once, ten_times, strict=True))
    assert ten_times[0] - once[0] == pytest.approx(10 * (once[0] - start[0]), rel=0.3)
