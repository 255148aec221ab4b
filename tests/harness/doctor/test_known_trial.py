"""The known trial: numbers that are off are found, on the CPU and on a GPU."""

import pytest
from msgspec.structs import replace

from bsrbench.harness.doctor.identical_pairs import identical_pair, judge_pairs
from bsrbench.harness.doctor.known_trial import KNOWN_FORWARD_FLOP, MIB, known_trial
from bsrbench.harness.doctor.meter_check import MeterCheck
from bsrbench.harness.launch.turns.whole_passes import WholePasses
from bsrbench.harness.profiler.process_pass import KNOWN_BYTES
from bsrbench.harness.records.pass_readings import PassReadings, notes_of
from bsrbench.harness.records.ratio_interval import Ratio
from bsrbench.harness.records.remarks import NoteKind
from bsrbench.harness.records.trial_record import Status
from bsrbench.harness.trial.pass_result import PassResult

ALIKE = Ratio(1.0, 0.98, 1.02, 5, least=0.99, largest=1.01)
APART = Ratio(1.1, 1.05, 1.15, 5, least=1.08, largest=1.12)


class Made:
    """A launcher with made-up passes that read what is right but for what a test changes."""

    RIGHT = {
        "forward_flop": KNOWN_FORWARD_FLOP,
        "forward_macs": KNOWN_FORWARD_FLOP // 2,
        "peak_estimated_bytes": 700,
        "peak_counted_bytes": 700,
        "peak_allocated_bytes": 800,
        "workspace_bytes": 100,
        "peak_reserved_bytes": 900,
        "peak_process_bytes": KNOWN_BYTES,
    }

    def __init__(self, notes=(), times=None, noted_by="memory", **changes):
        self.read, self.notes, self.noted_by = self.RIGHT | changes, list(notes), noted_by
        self.times, self.asked, self.devices = times, [], set()

    def perform(self, name, spec):
        self.asked.append(name)
        self.devices.add(spec.workload.device)
        read = {"step_seconds": self.times(len(self.asked))} if name == "clock" else self.read
        notes = notes_of(NoteKind.MEMORY, self.notes if name == self.noted_by else [])
        return PassResult(reading=PassReadings(read, notes=notes))

    def resident(self, spec):
        return WholePasses(lambda: self.perform("clock", spec))


EVERYWHERE = [
    ({}, set()),
    ({"forward_flop": KNOWN_FORWARD_FLOP + 1}, {"FLOPs of a forward pass"}),
    ({"forward_macs": KNOWN_FORWARD_FLOP}, {"twice its MACs"}),
    ({"notes": ["unexplained: 9 bytes"]}, {"counted, workspaces and allocated"}),
    ({"notes": ["two counters disagree"], "noted_by": "flops"}, {"two FLOP counters"}),
    ({"notes": ["other processes would be included"], "noted_by": "process"}, set()),
    ({"peak_allocated_bytes": None, "peak_estimated_bytes": 700}, set()),
]


@pytest.mark.parametrize(
    ("changes", "off"),
    [
        *EVERYWHERE,
        ({"peak_estimated_bytes": 701}, {"estimated peak"}),
        ({"peak_process_bytes": KNOWN_BYTES - 2 * MIB}, {"kernel's high-water mark"}),
        ({"peak_process_bytes": KNOWN_BYTES + 2 * MIB}, {"kernel's high-water mark"}),
        ({"peak_process_bytes": None}, set()),  # no /proc: nothing to judge
    ],
    ids=str,
)
def test_what_a_known_trial_reads_wrong_is_off(changes, off):
    launcher = Made(**changes)
    checks = list(known_trial(launcher, "cpu"))

    assert {check.what for check in checks if check.good is False} == off
    assert launcher.devices == {"cpu"}
    assert "known_process" in launcher.asked


@pytest.mark.parametrize(
    ("changes", "off"),
    [
        *EVERYWHERE,
        ({"peak_estimated_bytes": 840}, set()),  # 1.05 of the allocated peak
        ({"peak_estimated_bytes": 841}, {"estimated peak"}),
        ({"peak_estimated_bytes": 692}, {"estimated peak"}),  # 0.99 of the counted one is 693
        ({"workspace_bytes": None}, set()),
        (
            {"workspace_bytes": None, "peak_allocated_bytes": 699},
            {"counted, workspaces and allocated"},
        ),
        ({"peak_reserved_bytes": 799}, {"allocated, reserved and process"}),
        ({"peak_process_bytes": 899}, {"allocated, reserved and process"}),
        ({"peak_process_bytes": None, "peak_reserved_bytes": None}, set()),
    ],
    ids=str,
)
def test_on_a_gpu_the_same_trial_is_judged_by_what_its_allocator_reports(changes, off):
    launcher = Made(**changes)
    checks = list(known_trial(launcher, "cuda"))

    assert {check.what for check in checks if check.good is False} == off
    assert launcher.devices == {"cuda"}
    assert "known_process" not in launcher.asked


def test_a_pass_that_does_not_complete_is_off_and_ends_the_known_trial():
    class Failing(Made):
        def perform(self, name, spec):
            result = super().perform(name, spec)
            failed = replace(result, status=Status.CRASHED, reason="broken", reading=None)
            return failed if name == "flops" else result

    assert list(known_trial(Failing(), "cuda")) == [
        MeterCheck("cuda", "flops pass", "crashed: broken", good=False)
    ]


def test_an_identical_pair_is_timed_in_turns_and_gives_a_ratio():
    """The second of each generation takes 1.1 times as long."""

    def times(visit):
        return [1.1 if visit % 2 == 0 else 1.0] * 6  # as many as settle

    launcher = Made(times=times)
    ratio = identical_pair(launcher, "cuda")

    assert launcher.asked == ["clock"] * 10  # the least: five generations of two
    assert launcher.devices == {"cuda"}
    assert ratio.centre == pytest.approx(1 / 1.1)
    assert ratio.generations == 5
    assert ratio.differs()


def test_a_pair_that_cannot_be_timed_has_no_ratio():
    class Failing(Made):
        def perform(self, name, spec):
            return PassResult(Status.CRASHED, "broken")

    assert identical_pair(Failing(), "cpu") is None


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
    assert judge_pairs("cpu", ratios).good is good


def test_a_pair_is_printed_with_its_interval():
    assert judge_pairs("cpu", [APART, ALIKE]).message.startswith(
        "1 of 2 seem to differ: 1.100 [1.050, 1.150], 1.000 [0.980, 1.020]"
    )
