"""What the doctor finds here, and that it says so when a meter is off."""

import pytest
from msgspec.structs import replace

from bsrbench.harness import doctor
from bsrbench.harness.doctor import KNOWN_FORWARD_FLOP, MIB, MeterCheck, examine, identical_pair
from bsrbench.harness.launch.turns.whole_passes import WholePasses
from bsrbench.harness.meters.allocator_events import allocator_rise
from bsrbench.harness.profiler.process_pass import KNOWN_BYTES
from bsrbench.harness.records.pass_readings import PassReadings, notes_of
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult
from bsrbench.reports.compare.statistics import Ratio

ALIKE = Ratio(1.0, 0.98, 1.02, 5, least=0.99, largest=1.01)
APART = Ratio(1.1, 1.05, 1.15, 5, least=1.08, largest=1.12)


def test_every_meter_reads_what_is_known_on_this_machine(launcher):
    """With no pair of trials timed, which is the last finding, nothing is off."""
    *found, pairs = examine(launcher, 0)
    judged = {finding.what: finding.good for finding in found if finding.good is not None}

    assert set(judged.values()) == {True}, [f for f in found if f.good is False]
    assert set(judged) >= {
        "counted memory",
        "allocated memory",
        "FLOPs of a forward pass",
        "twice its MACs",
        "estimated peak",
        "meters against each other",
        "clock",
        "cpu attention",
    }
    assert {"cpu", "cpu energy", "cuda", "kernel's high-water mark"} <= {f.what for f in found}
    assert pairs == MeterCheck("identical pair", "could not be timed", good=False)


def test_a_meter_that_is_a_byte_off_is_found(monkeypatch):
    monkeypatch.setattr(doctor, "allocator_rise", lambda action: allocator_rise(action) + 1)

    assert list(doctor._known_bytes()) == [
        MeterCheck("counted memory", f"{12 * MIB}, expected {12 * MIB} bytes", good=True),
        MeterCheck("allocated memory", f"{12 * MIB + 1}, expected {12 * MIB} bytes", good=False),
    ]


class Made:
    """A launcher with made-up passes that read what is right but for what a test changes."""

    RIGHT = {
        "forward_flop": KNOWN_FORWARD_FLOP,
        "forward_macs": KNOWN_FORWARD_FLOP // 2,
        "peak_estimated_bytes": 7,
        "peak_counted_bytes": 7,
        "peak_process_bytes": KNOWN_BYTES,
    }

    def __init__(self, notes=(), times=None, **changes):
        self.read, self.notes = self.RIGHT | changes, list(notes)
        self.times, self.asked = times, []

    def perform(self, name, spec):
        self.asked.append(name)
        read = {"step_seconds": self.times(len(self.asked))} if name == "clock" else self.read
        notes = notes_of(NoteKind.MEMORY, self.notes if name == "memory" else [])
        return PassResult(reading=PassReadings(read, notes=notes))

    def resident(self, spec):
        return WholePasses(lambda: self.perform("clock", spec))


@pytest.mark.parametrize(
    ("changes", "off"),
    [
        ({}, set()),
        ({"forward_flop": KNOWN_FORWARD_FLOP + 1}, {"FLOPs of a forward pass"}),
        ({"forward_macs": KNOWN_FORWARD_FLOP}, {"twice its MACs"}),
        ({"peak_estimated_bytes": 8}, {"estimated peak"}),
        ({"notes": ["unexplained: 9 bytes"]}, {"meters against each other"}),
        ({"peak_process_bytes": KNOWN_BYTES - 2 * MIB}, {"kernel's high-water mark"}),
        ({"peak_process_bytes": KNOWN_BYTES + 2 * MIB}, {"kernel's high-water mark"}),
        ({"peak_process_bytes": None}, set()),  # no /proc: nothing to judge
    ],
    ids=str,
)
def test_what_a_known_trial_reads_wrong_is_off(changes, off):
    found = doctor._known_trial(Made(**changes))

    assert {finding.what for finding in found if finding.good is False} == off


def test_a_pass_that_does_not_complete_is_off_and_ends_the_known_trial():
    class Failing(Made):
        def perform(self, name, spec):
            result = super().perform(name, spec)
            failed = replace(result, status=Status.CRASHED, reason="broken", reading=None)
            return failed if name == "flops" else result

    assert list(doctor._known_trial(Failing())) == [
        MeterCheck("flops pass", "crashed: broken", good=False)
    ]


def test_an_identical_pair_is_timed_in_turns_and_gives_a_ratio():
    """The second of each generation takes 1.1 times as long."""

    def times(visit):
        return [1.1 if visit % 2 == 0 else 1.0] * 6  # as many as settle

    launcher = Made(times=times)
    ratio = identical_pair(launcher)

    assert launcher.asked == ["clock"] * 10  # the least: five generations of two
    assert ratio.centre == pytest.approx(1 / 1.1)
    assert ratio.rounds == 5
    assert ratio.differs()


def test_a_pair_that_cannot_be_timed_has_no_ratio():
    class Failing(Made):
        def perform(self, name, spec):
            return PassResult(Status.CRASHED, "broken")

    assert identical_pair(Failing()) is None


@pytest.mark.parametrize(
    ("ratios", "good"),
    [
        ([ALIKE], True),
        ([APART], False),
        ([None], False),
        ([None, ALIKE], True),
        ([ALIKE] * 19 + [APART], True),  # at most 1 of 20: 2 or more have 1.7 %, but 1 has 18 %
        ([ALIKE] * 18 + [APART] * 3, False),  # 3 or more of 21: 0.1 %
    ],
    ids=["alike", "apart", "none", "one not timed", "one of 20", "three of 21"],
)
def test_identical_pairs_may_seem_to_differ_as_often_as_chance_has_it(ratios, good):
    assert doctor._identical(ratios).good is good


def test_a_pair_is_printed_with_its_interval():
    assert doctor._identical([APART, ALIKE]).said.startswith(
        "1 of 2 seem to differ: 1.100 [1.050, 1.150], 1.000 [0.980, 1.020]"
    )


@pytest.mark.parametrize(
    ("rise", "code", "last"),
    [
        (0, 0, "every meter on this machine reads the expected value"),
        (1, 1, "wrong readings: allocated memory"),
    ],
)
def test_the_command_ends_with_1_if_a_meter_is_off(rise, code, last, typed, monkeypatch):
    """Asks the meters of known bytes alone; the rest takes half a minute."""
    monkeypatch.setattr(doctor, "allocator_rise", lambda action: allocator_rise(action) + rise)
    monkeypatch.setattr(doctor, "examine", lambda *_: doctor._known_bytes())
    found, printed = typed("doctor")
    lines = printed.splitlines()

    assert found == code
    assert lines[0] == f"ok  counted memory: {12 * MIB}, expected {12 * MIB} bytes"
    assert lines[1].startswith("ok " if rise == 0 else "OFF")
    assert lines[-1] == last


def test_no_pairs_are_bad_input(typed):
    code, printed = typed("doctor", "--pairs", "0")

    assert code == 2
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("capability", "said"),
    [((6, 1), "slow: compute capability 6.1"), ((7, 0), "fast: compute capability 7.0")],
)
def test_fp16_is_fast_from_volta_on(capability, said):
    found = doctor._fp16("cuda", capability)

    assert found == MeterCheck("cuda fp16", f"{said}; fast from 7.0 on")
