"""A limit on a ratio of times is decided by its interval, so that no build fails by chance."""

import math

import numpy as np
import pytest

from bsrbench.harness.records.ratio_interval import time_ratio
from bsrbench.reports.compare import gate
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.compare.time_limits import TimeLimit, corrected
from tests.reports.one_comparison import only

SECONDS = 2.0  # of the baseline, in every generation
# The logarithms vary by 0.02 around that of 1.1. Their standard deviation is 0.02309, that of the
# mean of four 0.011547. Student's t at 95 % with three degrees of freedom is 3.1824, so the
# interval reaches 0.03675 to each side: 1.1 [1.0603, 1.1412].
RATIOS = [1.1 * math.exp(sign * 0.02) for sign in (-1, 1, -1, 1)]


@pytest.fixture
def judged(make, no_details):
    """Return a judge of conditions on a row with ratios to the baseline, one per generation."""

    def judge(*conditions, ratios=RATIOS):
        records = [
            make("full", step_seconds=[SECONDS] * len(ratios)),
            make("mine", step_seconds=[SECONDS * ratio for ratio in ratios]),
        ]
        full, mine = only(records).rows
        contrasts = contrast([Pair(mine, full, "here")], no_details)
        return gate.judge(contrasts, map(gate.parse_judged, conditions))

    return judge


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        ("ratio(step_seconds) > 1.05", "failed"),
        ("ratio(step_seconds) > 1.08", "undecided"),  # the centre alone would fail
        ("ratio(step_seconds) > 1.12", "undecided"),  # the centre alone would pass
        ("ratio(step_seconds) > 1.15", "passed"),
        ("ratio(step_seconds) < 1.05", "passed"),
        ("ratio(step_seconds) < 1.12", "undecided"),
        ("ratio(step_seconds) <= 1.15", "failed"),
        ("ratio(step_seconds) > 0", "failed"),
        ("ratio(step_seconds) < -1", "passed"),
        # Of 2 s: limits of 1.05, 1.08 and 1.15 as ratios.
        ("difference(step_seconds) > 0.1", "failed"),
        ("difference(step_seconds) > 0.16", "undecided"),
        ("difference(step_seconds) > 0.3", "passed"),
        # Seconds of one row have no interval.
        ("value(step_seconds) > 2.19", "failed"),
        ("value(step_seconds) > 2.21", "passed"),
        ("baseline(step_seconds) >= 2", "failed"),
    ],
)
def test_a_limit_within_the_interval_is_undecided(judged, condition, outcome):
    found = judged(condition)

    assert (len(found.failed), len(found.undecided)) == (
        int(outcome == "failed"),
        int(outcome == "undecided"),
    )


def test_what_is_undecided_says_what_decides_it(judged):
    """1.08 is 1.8 % from 1.1: 0.018349 as logarithms.

    With nine generations the interval reaches 2.3060 x 0.02309 / 3 = 0.01775, with eight 2.3646 x
    0.02309 / 2.8284 = 0.01931.
    """
    (line,) = judged("ratio(step_seconds) > 1.08").undecided

    assert line == (
        "mine against full (here): ratio(step_seconds) > 1.08: the value is 1.1 [1.06, 1.141] over "
        "4 process generations, and the interval contains the limit. The limit is 1.8 % from the "
        "ratio: about 9 generations decide, if the ratio and its spread stay the same"
    )


def test_a_limit_at_the_ratio_needs_more_generations_than_anybody_measures(judged):
    (line,) = judged("ratio(step_seconds) >= 1.1001").undecided

    assert "0.0 % from the ratio: more than 1,000 generations decide" in line


def test_a_failure_shows_the_interval(judged):
    """The median of the new row is 2 s x 1.1 x cosh(0.02) = 2.2004 s."""
    (line,) = judged("difference(step_seconds) > 0.1").failed

    assert line.endswith(
        "difference(step_seconds) > 0.1: the value is 0.2004, the ratio 1.1 [1.06, 1.141]"
    )


def test_several_limits_are_tested_together(judged):
    """ln(1.1 / 1.06) / 0.011547 = 3.21 is beyond 3.1824, but not if p counts twice."""
    conditions = ["ratio(step_seconds) > 1.06", "ratio(step_seconds) >= 1.06"]
    one, two = judged(conditions[0]), judged(*conditions)

    assert (len(one.failed), len(one.undecided)) == (1, 0)
    assert (len(two.failed), len(two.undecided)) == (0, 2)
    assert (
        "excludes the limit, but the test does not pass, with 2 simultaneous comparisons"
    ) in two.undecided[0]


def test_without_an_interval_a_limit_on_times_cannot_be_passed(judged):
    found = judged("ratio(step_seconds) > 9", "difference(step_seconds) > 9", ratios=[1.0, 1.1])

    assert found.undecided == ()
    assert [line.partition("decided: ")[2] for line in found.failed] == [
        "an interval needs at least 3 process generations, and there are 2"
    ] * 2


def test_ratios_that_are_all_equal_are_decided_by_the_operator(judged):
    found = judged(
        *(f"ratio(step_seconds) {sign} 1" for sign in ("<", "<=", ">=", ">")), ratios=[1.0] * 5
    )

    assert [line.split(":")[1].strip() for line in found.failed] == [
        "ratio(step_seconds) <= 1",
        "ratio(step_seconds) >= 1",
    ]
    assert found.undecided == ()


def test_ten_identical_rows_break_a_limit_of_1_by_chance_in_at_most_5_of_100_reports():
    """Five generations; without the correction, about 2.5 of 100 limits break, in 16 reports."""
    random = np.random.default_rng(0)
    reports, single = 600, 0
    broken = 0
    for _ in range(reports):
        times = np.exp(random.normal(0, 0.03, (11, 5)))
        full, *others = [{g: [seconds] for g, seconds in enumerate(row)} for row in times.tolist()]
        limits = [TimeLimit(time_ratio(row, full), 1.0, lambda x: x > 1) for row in others]
        ps = corrected(limits)
        broken += any(limit.decided(p) for limit, p in zip(limits, ps, strict=True))
        single += any(limit.decided(0.0) for limit in limits)

    assert broken / reports <= 0.05
    assert single / reports > 0.1
