"""Timed threads run before other programs where the system permits it, and only if asked to."""

import multiprocessing
import os
import threading

import pytest

from bsrbench.harness.errors import BadInput
from bsrbench.harness.meters import scheduling
from bsrbench.harness.meters.scheduling import REAL_TIME, SETTING, USUAL, schedule_before_others

CORES = len(os.sched_getaffinity(0))


def policies():
    """Return the policies of all threads of this process, and of one that starts now."""
    found = {os.sched_getscheduler(int(task.name)) for task in scheduling.TASKS.iterdir()}
    later = threading.Thread(target=lambda: found.add(os.sched_getscheduler(0)))
    later.start()
    later.join()
    return found


def scheduled(sender, threads):
    """Schedule a process that has a second thread, and send what it got."""
    ends = threading.Event()
    threading.Thread(target=ends.wait, daemon=True).start()
    how = schedule_before_others(threads)
    sender.send((how, policies()))
    ends.set()


def in_a_process(threads):
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=scheduled, args=(sender, threads))
    process.start()
    answer = receiver.recv()
    process.join()
    return answer


def test_every_thread_is_scheduled_before_others_or_none_is():
    how, found = in_a_process(1)

    assert found == {os.SCHED_RR if how == REAL_TIME else os.SCHED_OTHER}


def test_where_root_may_it_does():
    """What this process may do is tried on itself, for as long as the test takes."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        expected = USUAL
    else:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        expected = REAL_TIME

    assert in_a_process(1)[0] == expected


def test_the_user_can_ask_for_usual_scheduling(monkeypatch):
    monkeypatch.setenv(SETTING, USUAL)

    assert in_a_process(1) == (USUAL, {os.SCHED_OTHER})


def test_threads_without_cores_of_their_own_are_left_alone():
    assert in_a_process(CORES + 1) == (USUAL, {os.SCHED_OTHER})


def test_another_value_is_refused(monkeypatch):
    monkeypatch.setenv(SETTING, "fifo")

    with pytest.raises(BadInput, match="BSRBENCH_SCHEDULING is 'fifo': set it to 'real-time'"):
        schedule_before_others(1)


def test_without_permission_scheduling_stays_usual(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)

    assert schedule_before_others(1) == USUAL
