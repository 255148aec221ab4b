"""Settings and circumstances in which two rows differ, and records of one row that differ."""

import json

import pytest

from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.documents import export
from tests.trial_records import altered

FUSED, UNFUSED = {"TIMM_FUSED_ATTN": "1"}, {"TIMM_FUSED_ATTN": "0"}
FLASH, NONE = "aten._flash_attention", "none fused: products and a softmax"


@pytest.fixture
def listed(make, no_details):
    """Return what lists all that is unlike in two profiles, by their environments."""

    def listed(ours, theirs):
        records = [
            make(name, peak_counted_bytes=1, environment=environment)
            for name, environment in (("mine", ours), ("bsr", theirs))
        ]
        (comparison,) = compare(records, no_details)
        (found,) = contrast([Pair(*comparison.rows, "")], no_details)
        return {u.name: (u.new, u.baseline) for u in found.unlike if u.name != "method"}

    return listed


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({"settings": FUSED}, {"settings": FUSED}, {}),
        (
            {"settings": FUSED},
            {"settings": UNFUSED},
            {"environment.settings.TIMM_FUSED_ATTN": ("1", "0")},
        ),
        (
            {"settings": FUSED | {"MKL_CBWR": "AVX2"}},
            {"settings": FUSED},
            {"environment.settings.MKL_CBWR": ("AVX2", "not set")},
        ),
        (
            {"variables": {}},
            {"variables": {"OMP_WAIT_POLICY": "PASSIVE"}},
            {"circumstances.variables.OMP_WAIT_POLICY": ("not set", "PASSIVE")},
        ),
        (
            {},
            {"variables": {"KMP_BLOCKTIME": "1"}},
            {"circumstances.variables.KMP_BLOCKTIME": (None, "1")},
        ),
        (
            {"settings": FUSED, "set_by_method": UNFUSED},
            {"settings": FUSED},
            {"environment.settings.TIMM_FUSED_ATTN": ("0", "1")},
        ),
    ],
    ids=["alike", "another", "more", "circumstance", "not stated", "the method's own"],
)
def test_settings_and_circumstances_are_listed(ours, theirs, expected, listed):
    wanted = {name: (new or "not stated", baseline) for name, (new, baseline) in expected.items()}

    assert listed(ours, theirs) == wanted


def test_a_record_that_states_no_settings_is_told_in_one_line(listed):
    assert listed({}, {"settings": FUSED | {"MKL_CBWR": "AVX2"}}) == {
        "settings that decide numbers": ("not stated", "stated")
    }


def test_the_kernel_that_a_record_states_needs_no_sidecar(listed):
    said = listed({"attention_kernel": FLASH}, {"attention_kernel": NONE})

    assert said == {"attention kernel": (FLASH, NONE)}
    assert listed({"attention_kernel": FLASH}, {}) == {"attention kernel": (FLASH, "not stated")}


def test_how_two_methods_kernels_run_is_listed_where_both_have_some(listed):
    eager, compiled = ({"method": {"kernels": how}} for how in ("eager", "compiled"))

    assert listed(eager, compiled) == {"environment.method.kernels": ("eager", "compiled")}
    assert listed(eager, {"method": {}}) == {}


def test_another_source_that_measures_is_listed(make, no_details):
    records = [
        altered(
            make(name, peak_counted_bytes=1),
            key=f"{name}-0123456789abcdef-source-{measuring}-settings-m",
        )
        for name, measuring in (("mine", "older"), ("bsr", "newer"))
    ]
    (comparison,) = compare(records, no_details)
    (found,) = contrast([Pair(*comparison.rows, "")], no_details)

    assert [(u.name, u.new, u.baseline) for u in found.unlike][1:] == [
        ("measuring code", "older", "newer")
    ]


@pytest.mark.parametrize(
    ("of_bsr", "expected"),
    [
        ({0: "drawn with 0"}, {}),  # seed 1 enters no comparison
        ({0: "drawn otherwise"}, {"weights": ("drawn with 0", "drawn otherwise")}),
        ({2: "drawn with 2"}, {"weights": ("drawn with 0, drawn with 1", "drawn with 2")}),
    ],
    ids=["one in common", "one in common, unlike", "none in common"],
)
def test_what_is_drawn_with_a_seed_is_put_against_the_same_seed(of_bsr, expected, make, no_details):
    of_mine = {0: "drawn with 0", 1: "drawn with 1"}
    records = [
        make(name, seed=seed, accuracy_top1=0.5, environment={"workload": {"weights": drawn}})
        for name, given in (("mine", of_mine), ("bsr", of_bsr))
        for seed, drawn in given.items()
    ]
    (comparison,) = compare(records, no_details)
    (found,) = contrast([Pair(*comparison.rows, "")], no_details)

    assert {
        u.name.removeprefix("environment.workload."): (u.new, u.baseline) for u in found.unlike[1:]
    } == (expected)


@pytest.fixture
def mixed(make, no_details):
    """Return a comparison whose rows were both measured under two settings."""
    records = [
        make(name, seed=seed, accuracy_top1=0.5, environment={"settings": settings})
        for name in ("mine", "bsr")
        for seed, settings in ((0, FUSED), (1, UNFUSED))
    ]
    (comparison,) = compare(records, no_details)
    return comparison


def test_a_row_of_records_under_different_settings_is_remarked_on(mixed, no_details):
    """Both rows are mixed alike, so nothing is unlike; it must be known all the same."""
    (found,) = contrast([Pair(*mixed.rows, "")], no_details)

    assert not [u for u in found.unlike if "settings" in u.name]
    for label in ("mine", "bsr"):
        said = f"{label}: its records were made under different settings (TIMM_FUSED_ATTN: 0, 1)"
        assert said in found.remarks


def test_a_report_says_in_which_settings_its_rows_differ(mixed, make, no_details):
    (alike,) = compare(
        [make("full", accuracy_top1=0.5, environment={"settings": FUSED})], no_details
    )

    assert "TIMM_FUSED_ATTN: 0, 1" in mixed.differences()
    assert not [line for line in alike.differences() if "TIMM" in line]


def test_the_table_of_records_has_kernel_settings_and_circumstances(make):
    stated = {"attention_kernel": FLASH, "settings": FUSED, "variables": {}}
    table = export.frame([make("mine", environment=stated), make("bsr")])

    assert table["environment.attention_kernel"][0] == FLASH
    assert list(table["environment.attention_kernel"].isna()) == [False, True]
    assert json.loads(table["environment.settings"][0]) == FUSED
    assert json.loads(table["circumstances.variables"][0]) == {}
    assert list(table["environment.settings"].isna()) == [False, True]
