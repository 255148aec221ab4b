"""Which rows of a group are alive together."""

import pytest
from msgspec.structs import replace

from bsrbench.harness.launch.planning.companions import Companions
from bsrbench.harness.launch.planning.resident_memory import BESIDE_BYTES, GIB, ResidentMemory
from bsrbench.harness.launch.planning.run_plan import Group, PlannedTrial
from bsrbench.harness.records.pass_readings import DeviceSpeed
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.harness.trial.record_assembly import make_record
from tests.harness.launch.counting_clock import PROFILE, Counting, by_method
from tests.trial_records import ran_in

NAMES = ("full", "bsr", "head", "lora", "int8")


@pytest.fixture
def planned(make_spec):
    def make(*names):
        specs = [make_spec(name, profile=PROFILE) for name in names]
        return tuple(PlannedTrial(spec, spec.method) for spec in specs)

    return make


def parts(group, peaks, free):
    """Return the methods of the new trials of each part."""
    memory = ResidentMemory(peaks, free)
    found = memory.parts(group, {"full", "bsr"})
    return [[trial.spec.method for trial in part] for part in found]


def beside(gib):
    """Return a predicted peak so that the whole process takes a number of GiB."""
    return gib * GIB - BESIDE_BYTES["cpu"]


def test_rows_that_fit_together_are_one_group(planned):
    """Five rows of 2 GiB."""
    new = planned(*NAMES)
    peaks = {trial.spec.row_id(): beside(2) for trial in new}

    assert parts(Group(new), peaks, 10 * GIB) == [list(NAMES)]


def test_parts_share_the_rows_that_all_are_compared_with(planned):
    """Of 8 GiB, full and bsr take 4 in every part: two others fit beside them, then the third."""
    new = planned(*NAMES)
    peaks = {trial.spec.row_id(): beside(2) for trial in new}

    assert parts(Group(new), peaks, 8 * GIB) == [["full", "bsr", "head", "lora"], ["int8"]]
    assert parts(Group(new), peaks, 10 * GIB - 1) == [["full", "bsr", "head", "lora"], ["int8"]]


def test_a_row_that_does_not_fit_beside_them_is_tried_alone_with_them(planned):
    new = planned(*NAMES)
    peaks = {trial.spec.row_id(): beside(2) for trial in new}

    assert parts(Group(new), peaks, 1) == [["full", "bsr", "head"], ["lora"], ["int8"]]


def test_stored_rows_take_memory_in_every_part(planned):
    """Three new rows beside two stored ones of 2 GiB each."""
    new, stored = planned("head", "lora", "int8"), planned("full", "bsr")
    records = tuple(
        make_record(t.key, t.spec, {"memory": PassResult("crashed", "-")}, ran_in())[0]
        for t in stored
    )
    peaks = {trial.spec.row_id(): beside(2) for trial in (*new, *stored)}
    group = Group(new, Companions(records))

    assert parts(group, peaks, 10 * GIB) == [["head", "lora", "int8"]]
    assert parts(group, peaks, 9 * GIB) == [["head", "lora"], ["int8"]]


@pytest.mark.parametrize("free", [None, 1000 * GIB])
def test_four_rows_at_most_are_alive_where_a_size_is_not_known(free, planned):
    new = planned(*NAMES)
    peaks = {trial.spec.row_id(): 1 for trial in new[:-1]} if free else {}
    memory = ResidentMemory(peaks, free)

    assert parts(Group(new), peaks, free) == [["full", "bsr", "head", "lora"], ["int8"]]
    assert "could not be predicted, so at most 4 are alive" in memory.why_split(Group(new))


def test_the_forecast_counts_the_shared_rows_in_every_part(planned):
    new = planned(*NAMES)
    peaks = {trial.spec.row_id(): beside(2) for trial in new}
    found = ResidentMemory(peaks, 8 * GIB).planned(Group(new), {"full", "bsr"})

    assert [[trial.key for trial in group.new] for group in found] == [
        ["full", "bsr", "head", "lora"],
        ["full", "bsr", "int8"],
    ]


class Small(Counting):
    """Predicts processes of 2 GiB, of which 8 GiB are free."""

    def perform(self, name, spec, **more):
        result = super().perform(name, spec, **more)
        if name == "estimate":
            measured = {"peak_estimated_bytes": beside(2)}
            return replace(result, reading=replace(result.reading, measurements=measured))
        if name == "speed":
            speed = DeviceSpeed(1e9, free_bytes=8 * GIB)
            return replace(result, reading=replace(result.reading, speed=speed))
        return result


def test_a_run_times_the_shared_rows_again_in_every_part(make_runner, rows):
    """The nth visit takes n seconds: eight of the first part, six of the second."""
    launcher = Small()
    runner = make_runner(launcher)
    records = by_method(runner.run(rows(*NAMES)))
    groups = {name: record.circumstances.round_group for name, record in records.items()}

    assert sorted(launcher.timed()[:4]) == ["bsr", "full", "head", "lora"]
    assert sorted(launcher.timed()[8:]) == sorted(["bsr", "full", "int8"] * 2)
    assert len({groups[name] for name in ("full", "bsr", "head", "lora")}) == 1
    assert groups["int8"] != groups["full"]
    assert set(records["int8"].beside) == {records["full"].key, records["bsr"].key}
    assert records["head"].beside == {}
    said = "  timed in 2 groups: 5 rows together need about 10.0 GiB, and 8.0 GiB are free"
    assert said in runner.watcher.said


def test_a_shared_row_that_has_failed_is_not_timed_again(make_runner, rows):
    launcher = Small(failing=["full"])
    records = by_method(make_runner(launcher).run(rows(*NAMES)))

    assert launcher.timed().count("full") == 1
    assert set(records["int8"].beside) == {records["bsr"].key}
    assert records["full"].outcome.status is Status.CRASHED
