"""The ratio of two rows over generations, and what its interval covers."""

import math

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from bsrbench.harness.records.time_ratio import ratio_over_generations

SURE = 0.999  # a right procedure fails a test of ours once in a thousand


def test_a_generation_counts_as_the_median_ratio_of_its_rounds():
    """Ratios 2, 2, 9 and 8, 8: medians 2 and 8, whose geometric mean is 4."""
    centre, _, _ = ratio_over_generations([[2, 4, 9], [8, 16]], [[1, 2, 1], [1, 2]], 0.95)

    assert centre == pytest.approx(4)


def test_the_interval_is_students_over_generations():
    ours = [[1.0, 1.1, 1.2], [1.3, 1.3, 1.3], [0.9, 1.0, 1.4]]
    theirs = [[1.0] * 3] * 3
    found = ratio_over_generations(ours, theirs, 0.9)
    interval = ttest_1samp(np.log([1.1, 1.3, 1.0]), 0).confidence_interval(0.9)

    assert found[1:] == pytest.approx((math.exp(interval.low), math.exp(interval.high)))


def test_one_generation_has_no_bounds_and_none_has_no_ratio():
    assert ratio_over_generations([[2.0]], [[1.0]], 0.95) == (2.0, 0.0, math.inf)
    assert ratio_over_generations([], [], 0.95) is None
    assert ratio_over_generations([[0.0]], [[1.0]], 0.95) is None


def test_a_visit_that_only_one_row_made_is_left_out():
    assert ratio_over_generations([[2.0, 9.0], [3.0]], [[1.0]], 0.95)[0] == 2.0


@pytest.mark.parametrize("generations", [3, 5, 8])
def test_the_interval_covers_the_luck_of_processes_and_of_visits(generations):
    """Missed as often as 2,000 tosses of a coin that falls so once in twenty, both ways."""
    random, missed, draws = np.random.default_rng(generations), 0, 2000

    def row(true):
        luck = random.normal(0, 0.03, (generations, 1))
        return np.exp(math.log(true) + luck + random.normal(0, 0.05, (generations, 7))).tolist()

    for _ in range(draws):
        _, low, high = ratio_over_generations(row(1.2), row(1.0), 0.95)
        missed += not low <= 1.2 <= high

    assert binom.ppf(1 - SURE, draws, 0.05) <= missed <= binom.ppf(SURE, draws, 0.05)
