"""What a pass read: frozen, joined from parts, and the same after it went through JSON."""

import json

import msgspec
import pytest

from bsrbench.harness.records.pass_readings import (
    DeviceSpeed,
    PassReadings,
    WorkloadFacts,
    absent,
    joined_readings,
    notes_of,
)
from bsrbench.harness.records.remarks import Absence, AbsenceKind, Note, NoteKind
from bsrbench.harness.records.sidecar import (
    AllocatedDetail,
    ClockDetail,
    CountedDetail,
    PackedTimeline,
    PeakPlace,
    Sidecar,
    sidecar_from,
)

LINE = PackedTimeline(
    index=(0, 4),
    live_bytes=(8, 3 * 2**40),  # three tebibytes: more than a count of 31 bits
    operators=("aten.mm.default",),
    operator=(0, 0),
    phases=("forward", "backward"),
    phase=(0, 1),
    modules=("", "blocks.0"),
    module=(0, 1),
)
WHOLE = PassReadings(
    {"step_flop": 3, "final_loss": 0.5, "step_seconds": [1.0, 2.5], "curve_steps": [1, 2]},
    {"forward_macs": Absence(AbsenceKind.UNREADABLE, "no trace")},
    notes_of(NoteKind.MEMORY, ["a doubt"]),
    Sidecar(
        counted=CountedDetail(PeakPlace("forward", "", "aten.mm.default"), {}, {}, LINE),
        allocated=AllocatedDetail(operator_at_peak=None, unexplained_bytes=-5),
        estimated={"forward_flop": 7, "peak_place": PeakPlace("backward", "blocks.0", "x")},
        clock=ClockDetail(outside_share=(None, 0.25), throttled=(("heat",), None), rounds=2),
    ),
    WorkloadFacts({"name": "random"}, {"images": 9}),
    "aten._fused",
    DeviceSpeed(1e9),
)


def test_a_reading_is_the_same_after_it_went_through_json():
    again = msgspec.json.decode(msgspec.json.encode(WHOLE), type=PassReadings)

    assert again == WHOLE
    assert type(again.measurements["step_flop"]) is int
    assert list(map(type, again.measurements["curve_steps"])) == [int, int]


@pytest.mark.parametrize("field", PassReadings.__struct_fields__)
def test_a_reading_never_changes(field):
    with pytest.raises(AttributeError, match="immutable"):
        setattr(WHOLE, field, None)


def test_readings_are_joined_in_their_order():
    """Of two values of one name, and of two parts of a sidecar, the later counts."""
    first = PassReadings({"step_flop": 1}, notes=notes_of(NoteKind.FLOPS, ["one"]))
    second = absent(AbsenceKind.NOT_AVAILABLE, "none here", "workspace_bytes")
    third = PassReadings(
        {"step_flop": 2},
        notes=notes_of(NoteKind.MEMORY, ["two"]),
        detail=Sidecar(process_baseline_bytes=4),
    )
    last = PassReadings({}, detail=Sidecar(losses=(1.0,)), attention_kernel="fused")

    assert joined_readings([first, second, third, last]) == PassReadings(
        {"step_flop": 2},
        {"workspace_bytes": Absence(AbsenceKind.NOT_AVAILABLE, "none here")},
        (Note(NoteKind.FLOPS, "one"), Note(NoteKind.MEMORY, "two")),
        Sidecar(process_baseline_bytes=4, losses=(1.0,)),
        attention_kernel="fused",
    )


def test_a_sidecar_s_json_has_what_was_seen_and_nothing_else():
    """Null where there was nothing between two operators; no key where nobody looked."""
    written = json.loads(msgspec.json.encode(WHOLE.detail))

    assert set(written) == {"counted", "allocated", "estimated", "clock"}
    assert written["allocated"] == {"operator_at_peak": None, "unexplained_bytes": -5}
    assert written["counted"]["held_by_module"] == {}
    assert written["estimated"] == {
        "forward_flop": 7,
        "peak_place": {"phase": "backward", "module": "blocks.0", "operator": "x"},
    }
    assert written["clock"] == {
        "outside_share": [None, 0.25],
        "throttled": [["heat"], None],
        "rounds": 2,
    }
    assert msgspec.convert(written, Sidecar) == WHOLE.detail


def test_an_old_sidecar_is_read_and_its_unknown_keys_are_ignored():
    old = {"counted": {"peak_place": None, "of_old": 1}, "more": [1], "flops": {"by_operator": {}}}

    assert fault_of_sidecar(old) == ""


def fault_of_sidecar(data):
    """Return why data are no sidecar; empty where they are one."""
    try:
        sidecar_from(data)
    except ValueError as error:
        return str(error)
    return ""


LISTS = {name: list(getattr(LINE, name)) for name in LINE.__struct_fields__}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"index": [1]}, "counted.timeline: lists differ in length: 1, 2, 2, 2, 2"),
        ({"phase": [0, 2]}, "counted.timeline: index 2 is not below 2, the number of names"),
        ({"live_bytes": [8, -1]}, "counted.timeline.live_bytes[1]: Expected `int` >= 0"),
        ({"modules": 7}, "counted.timeline.modules: Expected `array`, got `int`"),
    ],
)
def test_a_timeline_that_does_not_fit_together_is_named(changes, fault):
    assert fault_of_sidecar({"counted": {"timeline": LISTS}}) == ""
    assert fault_of_sidecar({"counted": {"timeline": LISTS | changes}}) == fault


def test_a_block_that_no_model_has_is_named():
    held = {"held_by_module": {"blocks.10000": 1}}

    expected = "counted: blocks.10000: a block number must be below 10000"
    assert fault_of_sidecar({"counted": held}) == expected
