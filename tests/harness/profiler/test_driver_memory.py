"""The process pass over answers of a driver that lists no process, replayed."""

from types import SimpleNamespace

import pytest

from bsrbench.harness.devices.memory_use import MemoryUse
from bsrbench.harness.profiler import process_pass as process
from bsrbench.methods import load

MIB = 2**20
METRIC = process.METRIC


@pytest.fixture
def read_from(monkeypatch, make_spec):
    """Return what reads the process pass while the driver gives answers, one after the other."""

    def read(*answers):
        left = [MemoryUse(used * MIB, of, reserved * MIB) for used, of, reserved in answers]
        device = SimpleNamespace(
            torch_device=SimpleNamespace(type="cuda"),
            synchronise=lambda: None,
            used_bytes=lambda: left.pop(0),
        )
        monkeypatch.setattr(process, "open_device", lambda _: device)
        reading = process.process_pass(make_spec(), load)
        assert left == []
        return reading

    return read


def test_process_is_the_rise_of_the_device_where_the_driver_lists_no_process(read_from):
    """1000 MiB before; 3500 after a step, of which 2000 are reserved and 500 the context."""
    reading = read_from((1000, "device", 0), (3500, "device", 2000), (3500, "device", 2000))

    assert reading.measurements == {METRIC: 2500 * MIB}
    assert [note.text.split(":")[0] for note in reading.notes] == [
        f"{METRIC} is the rise of the device's total use"
    ]


@pytest.mark.parametrize(
    ("used", "reserved", "noticed"),
    [
        (3700, 2000, True),  # 200 MiB more in use, none of it reserved by this process
        (3300, 2000, True),  # a neighbour has ended
        (3700, 2200, False),  # this process's own
        (3510, 2000, False),  # a kernel that was loaded late
    ],
)
def test_a_neighbour_that_allocates_meanwhile_is_noticed(used, reserved, noticed, read_from):
    reading = read_from((1000, "device", 0), (3500, "device", 2000), (used, "device", reserved))

    assert reading.measurements == {METRIC: 2500 * MIB}
    assert ["another process used the device" in note.text for note in reading.notes] == (
        [False, True] if noticed else [False]
    )


def test_the_number_of_this_process_needs_no_note(read_from):
    reading = read_from((0, "process", 0), (2500, "process", 2000), (2900, "process", 2000))

    assert (reading.measurements, reading.notes) == ({METRIC: 2500 * MIB}, ())


def test_a_driver_that_stops_listing_the_process_gives_no_number(read_from):
    reading = read_from((100, "process", 0), (3500, "device", 0), (3500, "device", 0))

    assert METRIC not in reading.measurements
    assert "stopped reporting" in reading.missing[METRIC].text
