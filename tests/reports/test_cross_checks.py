"""A report says which devices passed the doctor's cross-checks, by the records themselves."""

import pytest

from bsrbench.reports.compare import contrast
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.wording import notes
from bsrbench.reports.wording.limits import limits as limits_of

EXAMINES = "'bsrbench doctor' examines the meters of a device: those of cuda"
PASSED = {"finished_at": "2026-11-27T09:00:00.000+00:00", "torch": "2.11.0", "passed": ["a", "b"]}
ON_H100 = PASSED | {"driver": "580"}
NOT_CHECKED = "meters not cross-checked by 'bsrbench doctor'"
IN_ONE = "not stated in 1 of 2 rows"
CHECKED = "meters cross-checked by doctor on"


@pytest.fixture
def compared(make, no_details):
    """Return a comparison of one row per examination; ``None`` is a row without one."""

    def compared(device, *examinations):
        records = [
            make(
                name,
                peak_counted_bytes=1,
                workload={"device": device},
                environment={"device": {} if done is None else {"doctor": done}},
            )
            for name, done in zip(("full", "bsr", "head"), examinations, strict=False)
        ]
        (comparison,) = compare(records, no_details)
        return comparison

    return compared


@pytest.mark.parametrize(
    ("device", "examinations", "expected"),
    [
        ("cpu", [None], NOT_CHECKED),
        ("cuda:1", [None, None], NOT_CHECKED),
        ("cpu", [PASSED], f"{CHECKED} 2026-11-27 (torch 2.11.0): 2 checks passed"),
        (
            "cuda",
            [ON_H100, None],
            f"{CHECKED} 2026-11-27 (torch 2.11.0, driver 580): 2 checks passed; {IN_ONE}",
        ),
        (
            "cuda",
            [PASSED, PASSED | {"finished_at": "2026-12-01", "failed": ["clock"]}],
            f"{CHECKED} 2026-12-01 (torch 2.11.0): 2 checks passed, wrong readings of clock",
        ),
    ],
    ids=["cpu unchecked", "gpu unchecked", "cpu", "one of two rows", "the last counts"],
)
def test_each_device_is_said_to_be_cross_checked_or_not(device, examinations, expected, compared):
    made, checked = notes.provenance([compared(device, *examinations)])

    assert made.startswith("machine m: ")
    assert checked == f"machine m, device {device.partition(':')[0]}: {expected}"


@pytest.mark.parametrize(
    ("device", "examinations", "expected"),
    [
        ("cpu", [None, None], []),
        ("cuda", [PASSED, PASSED], []),
        (
            "cuda",
            [PASSED, None, PASSED | {"failed": ["clock"]}],
            [f"{EXAMINES} were not examined in 1 of 3 rows and did not pass in 1 of 3 rows"],
        ),
        (
            "cuda",
            [PASSED | {"failed": ["clock"]}],
            [f"{EXAMINES} did not pass in 1 of 1 rows"],
        ),
    ],
    ids=["cpu", "passed", "two of three did not", "one was wrong"],
)
def test_meters_of_a_gpu_that_were_not_checked_limit_the_conclusions(
    device, examinations, expected, compared
):
    limits = limits_of(compared(device, *examinations))

    assert [line for line in limits if "meters" in line] == expected


def test_a_device_that_was_examined_is_not_unlike_one_that_was_not(compared, no_details):
    (first, second) = compared("cuda", PASSED, None).rows
    (found,) = contrast.contrast([contrast.Pair(first, second, "")], no_details)

    assert [difference.name for difference in found.unlike] == ["method"]
