"""Rows that ran with other precision, cuDNN or attention settings get no verdict unasked."""

import pytest

from bsrbench.harness.devices import numeric_settings
from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.store import Gathered
from bsrbench.reports.compare import contrast, matching
from bsrbench.reports.compare.comparison import compare

CHOSEN = {
    "torch.backends.cuda.matmul.fp32_precision": ("none", "tf32"),
    "torch.backends.cudnn.conv.fp32_precision": ("tf32", "ieee"),
    "torch.backends.cudnn.enabled": ("1", "0"),
    "torch.backends.cudnn.benchmark": ("0", "1"),
    "torch.backends.cudnn.deterministic": ("0", "1"),
    "torch.backends.cuda.flash_sdp": ("1", "0"),
    "torch.backends.cuda.mem_efficient_sdp": ("1", "0"),
    "torch.backends.cuda.cudnn_sdp": ("1", "0"),
    "torch.backends.cuda.math_sdp": ("1", "0"),
    "torch.backends.cuda.sdp_priority": ("FLASH_ATTENTION, MATH", "MATH, FLASH_ATTENTION"),
    "TIMM_FUSED_ATTN": ("1", "0"),
}
USUAL = {name: values[0] for name, values in CHOSEN.items()}


@pytest.fixture
def pool(make):
    """Return a maker of results: a row of ``bsr`` and one of ``full``, each with an environment."""

    def pool(ours, theirs):
        records = [
            make(name, peak_counted_bytes=1, workload={"device": "cuda"}, environment=environment)
            for name, environment in (("bsr", ours), ("full", theirs))
        ]
        return Gathered(records, [], ())

    return pool


def test_every_gpu_record_states_these_settings():
    assert numeric_settings.settings("cuda").keys() >= CHOSEN.keys()


@pytest.mark.parametrize("name", CHOSEN)
def test_rows_under_another_choice_of_kernels_are_not_compared_unasked(name, pool, no_details):
    usual, other = CHOSEN[name]
    records = pool({"settings": USUAL}, {"settings": USUAL | {name: other}})

    with pytest.raises(BadInput) as raised:
        matching.match("bsr", "full", records)
    assert f"{name} {usual} and {other}" in str(raised.value)
    assert "--unlike" in str(raised.value)
    matched = matching.match("bsr", "full", records, even_unlike=True)
    (found,) = contrast.contrast(matched.pairs, no_details)
    assert (f"environment.settings.{name}", usual, other) in [
        (u.name, u.new, u.baseline) for u in found.unlike
    ]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"settings": USUAL}, {"settings": USUAL}),
        ({"settings": USUAL}, {}),  # records of schema 5 and older state none
        ({"settings": USUAL | {"torch.backends.new": "1"}}, {"settings": USUAL}),
        ({"settings": USUAL | {"MALLOC_ARENA_MAX": "1"}}, {"settings": USUAL}),
        ({"settings": USUAL, "set_by_method": {"TIMM_FUSED_ATTN": "0"}}, {"settings": USUAL}),
    ],
    ids=["alike", "not stated", "of another torch", "no kernel", "the method's own"],
)
def test_other_differences_in_settings_are_listed_and_compared(ours, theirs, pool):
    assert len(matching.match("bsr", "full", pool(ours, theirs)).pairs) == 1


def test_a_report_of_both_says_in_which_settings_they_differ(pool, no_details):
    other = USUAL | {"torch.backends.cudnn.benchmark": "1"}
    (comparison,) = compare(pool({"settings": USUAL}, {"settings": other}).records, no_details)

    assert "torch.backends.cudnn.benchmark: 0, 1" in comparison.differences()
