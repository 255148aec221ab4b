"""Passes without a clock run side by side where that changes no number, and clocks run alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from bsrbench import methods
from bsrbench.harness.launch.progress import Quiet
from bsrbench.harness.launch.run_settings import RunSettings
from bsrbench.harness.launch.runner import Runner
from bsrbench.harness.launch.shared_device import OWN_BYTES, WORKSPACES, SharedDevice
from bsrbench.harness.launch.side_by_side import run_side_by_side
from bsrbench.harness.profiler.process_pass import THIS_PROCESS
from bsrbench.harness.records.pass_readings import DeviceSpeed, PassReadings
from bsrbench.harness.records.sidecar import Sidecar
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from tests.harness.launch.counting_clock import OTHERS, PROFILE, Counting

PEAK = 2**30
NEEDS = int(WORKSPACES * PEAK + OWN_BYTES)
PATIENCE = 60  # seconds, until a test that waits for a neighbour in vain gives up
DONE = PassResult(reading=PassReadings({}))
FULL = PassResult(Status.OUT_OF_MEMORY, "no memory")


def read_from(source):
    return PassResult(reading=PassReadings({}, detail=Sidecar(process_read_from=source)))


@pytest.fixture
def spec(make_spec):
    return make_spec(device="cuda")


@pytest.fixture
def share(spec):
    """Return a maker of devices with room for some passes."""
    return lambda passes: SharedDevice(passes * NEEDS, {spec.row_id(): PEAK})


class Meeting:
    """Passes that wait for each other, so that they end only if they run at the same time."""

    def __init__(self, passes, result=DONE):
        self._barrier, self._result = threading.Barrier(passes), result

    def __call__(self):
        """Wait for the others."""
        self._barrier.wait(PATIENCE)
        return self._result


class Counted:
    """Passes that note how many of them ran at the same time."""

    def __init__(self, result=DONE):
        self.most, self.runs, self._now = 0, 0, 0
        self._lock, self._result = threading.Lock(), result

    def __call__(self):
        """Note the number of passes that run now."""
        with self._lock:
            self._now += 1
            self.runs += 1
            self.most = max(self.most, self._now)
        threading.Event().wait(0.01)  # room for a neighbour, if one may run
        with self._lock:
            self._now -= 1
        return self._result


def together(device, name, spec, run, passes):
    with ThreadPoolExecutor(passes) as pool:
        asked = [pool.submit(device.perform, name, spec, run) for _ in range(passes)]
    return [each.result() for each in asked]


@pytest.mark.parametrize("name", ["memory", "flops"])
def test_passes_that_fit_run_at_the_same_time(name, share, spec):
    assert together(share(2), name, spec, Meeting(2), 2) == [DONE] * 2


def test_no_more_passes_run_than_fit(share, spec):
    passes = Counted()
    together(share(2), "memory", spec, passes, 6)

    assert passes.most <= 2
    assert passes.runs == 6


@pytest.mark.parametrize(
    "device",
    [SharedDevice(None, {}), SharedDevice(100 * NEEDS, {}), SharedDevice(NEEDS // 2, {})],
    ids=["free memory unknown", "peak unknown", "no room"],
)
def test_a_pass_of_unknown_size_runs_alone(device, spec):
    passes = Counted()
    together(device, "memory", spec, passes, 4)

    assert passes.most == 1


def test_processes_are_read_side_by_side_once_the_driver_reports_each(share, spec):
    device, read = share(2), read_from(THIS_PROCESS)

    assert device.perform("process", spec, lambda: read) == read
    assert together(device, "process", spec, Meeting(2, read), 2) == [read] * 2


def test_the_use_of_the_whole_device_is_read_alone(share, spec):
    device, passes = share(4), Counted(read_from("driver, device"))
    together(device, "process", spec, passes, 4)

    assert (passes.most, passes.runs) == (1, 4)


def test_a_process_pass_waits_for_its_neighbours_where_it_must_be_alone(share, spec):
    device, order, begun = share(4), [], threading.Event()

    def memory():
        begun.set()
        threading.Event().wait(0.05)
        order.append("memory")
        return DONE

    def process():
        order.append("process")
        return read_from("driver, device")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(device.perform, "memory", spec, memory)
        begun.wait(PATIENCE)
        second = pool.submit(device.perform, "process", spec, process)

    assert (first.result(), second.result()) == (DONE, read_from("driver, device"))
    assert order == ["memory", "process"]


@pytest.mark.parametrize(
    ("name", "spoilt"), [("memory", FULL), ("process", read_from("driver, device"))]
)
def test_a_result_that_neighbours_can_have_changed_is_read_again_alone(name, spoilt, share, spec):
    device = share(2)
    device.perform("process", spec, lambda: read_from(THIS_PROCESS))
    good = read_from(THIS_PROCESS)
    results = [spoilt, good]

    assert device.perform(name, spec, lambda: results.pop(0)) == good
    assert results == []


def test_a_process_on_the_cpu_is_always_read_by_itself(make_spec):
    spec = make_spec(device="cpu")
    device = SharedDevice(2 * NEEDS, {spec.row_id(): PEAK})

    assert together(device, "process", spec, Meeting(2), 2) == [DONE] * 2


def test_the_first_error_of_a_task_is_raised_and_the_rest_is_left_out():
    begun = []

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(1, [fail, lambda: begun.append(1)])
    with pytest.raises(KeyboardInterrupt):
        run_side_by_side(2, [fail])

    assert begun == []


class Overlapping(Counting):
    """A launcher that notes which passes were running as each pass began."""

    def __init__(self):
        super().__init__()
        self._lock, self._now, self.beside = threading.Lock(), [], []

    def perform(self, name, spec, *, log=None, **_):
        """Answer after a while, in which a neighbour may begin."""
        with self._lock:
            self.beside.append((name, list(self._now)))
            self._now.append(name)
        threading.Event().wait(0.01)
        with self._lock:
            self._now.remove(name)
            self.asked.append((name, spec.method))
        if name == "speed":
            speed = DeviceSpeed(1e9, free_bytes=2**40)
            return PassResult(reading=PassReadings({}, speed=speed))
        values = OTHERS.get(name) or {"step_seconds": [1.0], "evaluation_seconds": [0.5]}
        return PassResult(reading=PassReadings(values), start_seconds=0.1)


def test_clocks_run_alone_and_the_other_passes_side_by_side(store, make_spec):
    specs = [make_spec(name, profile=PROFILE, threads=1) for name in ("full", "head", "bsr")]
    launcher = Overlapping()
    settings = RunSettings(jobs=2)
    records = Runner(launcher, store, methods.fingerprint, Quiet(), settings).run(specs)
    clocks = [others for name, others in launcher.beside if name == "clock"]
    most = max(len(others) for _, others in launcher.beside)

    assert len(records) == 3
    assert clocks == [[]] * 6
    assert all("clock" not in others for _, others in launcher.beside)
    assert most == 1  # one neighbour: two jobs
    assert {record.circumstances.jobs for record in records} == {2}
