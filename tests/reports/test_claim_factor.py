"""A time reaches a claim by a test that counts all rows of the question."""

import pytest

from bsrbench.reports.wording.claim_factor import INCONCLUSIVE, LESS, NOTHING, PERHAPS, Factor
from bsrbench.reports.wording.claims import page
from tests.trial_records import no_details

# Step times relative to those of bsr.
TIMES = {"lora": [1.5, 1.6, 1.4], "bias": [2.1, 2.2, 2.6], "prompt": [1.8, 1.9, 2.2]}


def test_a_claim_is_tested_with_holms_correction_for_the_number_of_rows(make):
    """Lora: logarithms 0.405, 0.470, 0.336, mean 0.404, deviation 0.067; 2 is 0.693.

    T is 0.289 / (0.067 / sqrt(3)) = 7.5, whose p value is 1 - t / sqrt(2 + t^2) = 0.017: below
    0.05 alone, but not three times. The p values of the other rows are 0.17 and 0.77.
    """
    bsr = make("bsr", step_seconds=[1.0] * 3)
    rows = {name: make(name, step_seconds=times) for name, times in TIMES.items()}
    alone, beside = (
        next(
            line
            for line in page([bsr, *others], no_details).splitlines()
            if line.startswith("- time of a training step")
        )
        for others in ([rows["lora"]], rows.values())
    )

    assert alone.endswith("a smaller saving than claimed against lora.")
    assert beside.endswith("inconclusive against lora, bias, prompt.")


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (Factor(3.0, 2.5, 3.5, 0.05, 0.01), "2 times or more against"),
        (Factor(3.0, 2.5, 3.5, 0.06, 0.01), INCONCLUSIVE),
        (Factor(1.5, 1.2, 1.8, 0.04, 0.04), LESS),
        (Factor(1.5, 1.2, 1.8, 0.04, 0.06), PERHAPS),
        (Factor(1.5, 0.9, 1.8, 0.04, 0.20), PERHAPS),
        (Factor(0.5, 0.4, 0.6, 0.01, 0.02), NOTHING),
        (Factor(0.5, 0.4, 0.6, 0.01, 0.06), PERHAPS),
        (Factor(0.5, 0.4, 0.6, 0.06, 0.20), INCONCLUSIVE),
        (Factor(9.0, None, None), INCONCLUSIVE),
        (Factor(2.0, 2.0, 2.0), "2 times or more against"),
        (Factor(1.0, 1.0, 1.0), NOTHING),
    ],
)
def test_both_the_interval_and_the_test_decide(factor, expected):
    assert factor.reach(2.0) == expected
