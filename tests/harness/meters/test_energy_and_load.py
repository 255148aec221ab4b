"""Energy between two readings, and what disturbs a timing from outside."""

import os
import subprocess
import sys
import time

import pytest

from bsrbench.harness.errors import Unreadable
from bsrbench.harness.meters import machine_load
from bsrbench.harness.meters.energy import joules
from bsrbench.harness.meters.machine_load import Disturbance, LoadWatch

QUIET = Disturbance(outside_share=0.0, stolen_share=0.0, throttled=[], governor=None)


def test_energy_is_what_the_counter_rose_by_over_the_action():
    """The action adds 2.5 J to a counter that stood at 100 J; what follows is not counted."""
    counter = [100.0]

    def action():
        counter[0] += 2.5

    assert joules(action, lambda: counter[0]) == 2.5


def test_a_counter_that_does_not_move_is_missing_and_not_zero():
    with pytest.raises(Unreadable, match="did not change"):
        joules(lambda: None, lambda: 7.0)


class Machine:
    """Two cores of which all counters are files and both clocks are set by hand."""

    def __init__(self, folder):
        self.wall = self.own = 0.0
        self.stat, self.group, self.cores = folder / "stat", folder / "cpu.stat", folder / "cpu"
        self.tick(0, 0)
        self.throttle(quota=3, heat=5)
        for core in (0, 1):
            (self.cores / f"cpu{core}/cpufreq").mkdir()
            (self.cores / f"cpu{core}/cpufreq/scaling_governor").write_text("powersave\n")

    def tick(self, busy, stolen, idle=0):
        """Write the ticks of core 0; core 1 idles, and core 2 is not ours to use."""
        self.stat.write_text(
            f"cpu 1 2 3 4 5 6 7 8 9 10\n"
            f"cpu0 {busy} 0 0 {idle} 0 0 0 {stolen} {busy} 0\n"
            f"cpu1 0 0 0 {idle} 0 0 0 0 0 0\n"
            f"cpu2 {77 * busy} 0 0 0 0 0 0 0 0 0\n"
            "intr 1 2 3\n"
        )

    def throttle(self, quota, heat):
        self.group.write_text(f"usage_usec 1\nnr_periods 9\nnr_throttled {quota}\n")
        for core in (0, 1):
            folder = self.cores / f"cpu{core}/thermal_throttle"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "core_throttle_count").write_text(f"{heat}\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    monkeypatch.setattr(machine_load, "STAT", made.stat)
    monkeypatch.setattr(machine_load, "CGROUP_CPU_STAT", made.group)
    monkeypatch.setattr(machine_load, "CPU_FOLDER", made.cores)
    monkeypatch.setattr(machine_load, "TICKS_PER_SECOND", 100)
    monkeypatch.setattr(machine_load.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(machine_load.time, "perf_counter", lambda: made.wall)
    monkeypatch.setattr(machine_load.time, "process_time", lambda: made.own)
    return made


def test_load_from_outside_is_what_the_cores_did_beyond_this_process(machine):
    """Of 2 cores x 10 s, 900 ticks were busy = 9 s, 4 s of them ours, and 100 ticks stolen = 1 s.

    Outside (9 - 4) / 20, stolen 1 / 20. Guest time is in user time already.
    """
    with LoadWatch() as watch:
        machine.wall, machine.own = 10.0, 4.0
        machine.tick(busy=900, stolen=100)

    assert watch.disturbance == Disturbance(
        outside_share=0.25, stolen_share=0.05, throttled=[], governor="powersave"
    )


def test_what_the_timed_processes_did_is_no_load_from_outside(machine):
    """Of 2 cores x 10 s, 9 s were busy: 1 s by this process, 6 s by those that it times."""
    with LoadWatch() as watch:
        machine.wall, machine.own = 10.0, 1.0
        machine.tick(busy=900, stolen=0)
        watch.timed_seconds = 6.0

    assert watch.disturbance.outside_share == pytest.approx(0.1)


def test_only_the_cores_that_are_asked_for_are_watched(machine):
    """Core 1 idles while core 0 is busy for 9 of 10 s."""
    with LoadWatch([1]) as idle, LoadWatch([0]) as busy:
        machine.wall = 10.0
        machine.tick(busy=900, stolen=0, idle=100)

    assert (idle.disturbance.outside_share, busy.disturbance.outside_share) == (0.0, 0.9)


def test_nothing_else_on_the_machine_is_no_load_even_where_ticks_are_cut(machine):
    with LoadWatch() as watch:
        machine.wall, machine.own = 1.0, 1.0
        machine.tick(busy=99, stolen=0, idle=50)

    assert watch.disturbance.outside_share == 0.0


def test_throttling_by_quota_and_by_heat_is_counted(machine):
    """The quota's count rises from 3 to 7; each of two cores' heat count rises from 5 to 6."""
    with LoadWatch() as watch:
        machine.throttle(quota=7, heat=6)

    assert watch.disturbance.throttled == [
        "the cgroup's CPU quota stopped the process 4 times",
        "overheating slowed a core 2 times",
    ]


@pytest.mark.parametrize(
    "stat",
    [
        None,
        "cpu0 1 2 3 4\ncpu1 1 2 3 4\n",
        "cpu0 1 2 3 4 5 6 7 8\n",
        "cpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\n",
    ],
    ids=["no file", "an old kernel", "a core is left out", "a sandbox's zeros"],
)
def test_what_the_kernel_does_not_show_is_unknown(stat, machine):
    machine.stat.unlink() if stat is None else machine.stat.write_text(stat)
    with LoadWatch() as watch:
        machine.wall, machine.own = 10.0, 1.0

    assert watch.disturbance.outside_share is None
    assert watch.disturbance.stolen_share is None


def test_a_machine_without_counters_of_throttling_does_not_know(machine, monkeypatch):
    """The root group's file has no line about throttling."""
    machine.group.write_text("usage_usec 1\n")
    monkeypatch.setattr(machine_load, "CPU_FOLDER", machine.cores / "gone")
    with LoadWatch() as watch:
        pass

    assert watch.disturbance.throttled is None
    assert watch.disturbance.governor is None


def test_what_is_too_short_for_the_ticks_is_unknown(machine):
    """In 0.3 s, the two ticks a core that rounding may hide are a share of 0.07."""
    with LoadWatch() as watch:
        machine.wall = 0.3
        machine.tick(busy=20, stolen=0)

    assert watch.disturbance.outside_share is None


def test_only_what_is_beyond_its_limit_is_noted():
    at_limits = Disturbance(machine_load.OUTSIDE_LIMIT, machine_load.STOLEN_LIMIT, [], "powersave")
    unknown = Disturbance(None, None, None, None)

    assert QUIET.notes() == at_limits.notes() == unknown.notes() == []
    assert Disturbance(0.1234, 0.5, ["overheating slowed a core 2 times"], None).notes() == [
        "other processes used a share of 0.123 of the cores' time (limit: 0.05)",
        "the hypervisor took a share of 0.500 of the cores' time (limit: 0.02)",
        "throttled during the timing: overheating slowed a core 2 times",
    ]


def test_a_system_that_does_not_tell_the_usable_cores_shows_nothing(machine, monkeypatch):
    monkeypatch.delattr(machine_load.os, "sched_getaffinity")
    with LoadWatch() as watch:
        machine.wall = 10.0

    assert watch.disturbance == Disturbance(None, None, [], None)


@pytest.fixture
def one_core():
    """Let this thread and its children use one core only."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    yield
    os.sched_setaffinity(0, usable)


@pytest.fixture
def neighbour(one_core):
    """Keep a process busy on the core that this one uses."""
    spin = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    with subprocess.Popen(spin, stdout=subprocess.PIPE) as process:
        process.stdout.readline()  # it has started
        yield
        process.kill()


def test_a_busy_neighbour_is_seen_on_this_machine(neighbour):
    """This process and its neighbour share a core by halves; others leave this one less.

    Over three seconds: a scheduler that has just given one of them an advantage takes it back.
    """
    with LoadWatch() as watch:
        end = time.perf_counter() + 3.0
        while time.perf_counter() < end:
            pass

    assert 0.2 < watch.disturbance.outside_share < 1.1
    assert any("other processes" in note for note in watch.disturbance.notes())
