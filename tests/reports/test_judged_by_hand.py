"""Intervals and verdicts worked out on paper, with the quantiles of printed tables."""

import math

import pytest

from bsrbench.harness.records.ratio_interval import CONFIDENCE, by_generation, time_ratio
from bsrbench.reports.compare.comparison import compare
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.compare.statistics import DOCTOR_CONFIDENCE, paired_difference
from bsrbench.reports.compare.verdict import VerdictWord

# Student's t at 97.5 % and 99.5 %, by degrees of freedom.
T_2, T_2_OF_99, T_5 = 4.302653, 9.924843, 2.570582


def three_rounds(confidence=CONFIDENCE):
    """Return the ratio of three rounds with logarithms of 0, 0.3 and 0.6, each in new processes."""
    seconds = [math.exp(x) for x in (0.0, 0.3, 0.6)]
    return time_ratio(by_generation(seconds, 1), by_generation([1.0] * 3, 1), confidence)


def test_the_interval_of_three_rounds_is_students():
    """Ratios whose logarithms are 0, 0.3 and 0.6: mean 0.3, deviation 0.3 (sums over n - 1)."""
    found = three_rounds()
    reach = T_2 * 0.3 / math.sqrt(3)

    assert found.centre == pytest.approx(math.exp(0.3))
    assert found.low == pytest.approx(math.exp(0.3 - reach), rel=1e-6)
    assert found.high == pytest.approx(math.exp(0.3 + reach), rel=1e-6)
    assert (found.least, found.largest) == pytest.approx((1.0, math.exp(0.6)))
    assert found.rounds == 3


def test_the_doctors_interval_is_wider():
    found = three_rounds(DOCTOR_CONFIDENCE)

    assert found.high == pytest.approx(math.exp(0.3 + T_2_OF_99 * 0.3 / math.sqrt(3)), rel=1e-6)


def test_the_interval_of_three_pairs_is_students():
    """Differences of 1, 2 and 3: mean 2, deviation 1. Of 8 flips, 2 have sums as far from 0."""
    found = paired_difference([1.0, 2.0, 3.0])
    reach = T_2 / math.sqrt(3)

    assert (found.low, found.high) == pytest.approx((2 - reach, 2 + reach), rel=1e-6)
    assert found.p == pytest.approx(2 / 8)


@pytest.fixture
def judge(make, no_details):
    """Return what judges methods by how much better than BSR they are, seed by seed."""

    def words(**differences):
        (seeds,) = {len(apart) for apart in differences.values()}
        rows = {"bsr": [0.5] * seeds}
        rows |= {name: [0.5 + d for d in apart] for name, apart in differences.items()}
        records = [
            make(name, seed=seed, accuracy_top1=accuracy)
            for name, accuracies in rows.items()
            for seed, accuracy in enumerate(accuracies)
        ]
        (comparison,) = compare(records, no_details)
        bsr = comparison.find("bsr")
        found = contrast([Pair(comparison.find(name), bsr, "") for name in differences], no_details)
        return [one.find("accuracy_top1").verdict.word for one in found]

    return words


# Seven differences of one sign but for a small one: 4 of 128 flips are as far from 0, p = 0.031.
ONE_AGAINST = (-0.001, 0.1, 0.1, 0.1, 0.1, 0.1, 0.11)
ALL_FOR = (0.09, 0.1, 0.1, 0.1, 0.1, 0.1, 0.11)  # 2 of 128 flips, p = 0.016


def test_two_methods_at_once_are_judged_by_holms_correction(judge):
    """0.031 passes at 0.05 alone; twice that does not; with 0.016 x 2 before it it does, x 1."""
    assert judge(mine=ONE_AGAINST) == [VerdictWord.BETTER]
    assert judge(mine=ONE_AGAINST, other=ONE_AGAINST) == [VerdictWord.INCONCLUSIVE] * 2
    assert judge(mine=ONE_AGAINST, other=ALL_FOR) == [VerdictWord.BETTER] * 2


def test_the_t_interval_must_leave_out_0_too(judge):
    """Five times 0.01 and once 0.3: p = 2 / 64, and 0.0583 +- 2.57 x 0.1184 / sqrt(6) holds 0.

    The squares' sum is 5 x 0.0483^2 + 0.2417^2 = 0.0701, over 5 0.0140, its root 0.1184.
    """
    differences = (0.01, 0.01, 0.01, 0.01, 0.01, 0.3)
    found = paired_difference(differences)

    assert found.p == pytest.approx(2 / 64)
    assert found.low == pytest.approx(0.35 / 6 - T_5 * 0.118392 / math.sqrt(6), rel=1e-4)
    assert judge(mine=differences) == [VerdictWord.INCONCLUSIVE]


def test_the_sign_flip_test_must_pass_too(judge):
    """Six differences, one of them against: 4 of 64 flips, p = 0.0625; the interval is above 0."""
    differences = (-0.001, 0.1, 0.1, 0.1, 0.1, 0.11)

    assert paired_difference(differences).low > 0
    assert judge(mine=differences) == [VerdictWord.INCONCLUSIVE]
