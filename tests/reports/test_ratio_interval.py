"""Ratios of times on two levels, worked out on paper: rounds in process generations."""

import csv
import itertools
import math
import statistics

import pytest

from bsrbench.harness.records.ratio_interval import (
    by_generation,
    centre_of_ratio,
    time_ratio,
)
from bsrbench.harness.records.sidecar import ClockDetail
from bsrbench.reports.compare.contrast import Pair, contrast
from bsrbench.reports.compare.statistics import corrected_ps
from bsrbench.reports.compare.verdict import VerdictWord
from bsrbench.reports.documents import csv_table
from tests.reports.one_comparison import no_details, only
from tests.trial_records import altered

T_2 = 4.302653  # Student's t at 97.5 % with 2 degrees of freedom
ONES = {number: [1.0] * 3 for number in range(3)}
# Medians of the logarithms: 0.1, 0.3, 0.5; their mean is 0.3, their deviation 0.2.
LOGARITHMS = {0: (0.0, 0.1, 5.0), 1: (0.4, 0.3, 0.2), 2: (0.5, -2.0, 0.6)}
OURS = {number: [math.exp(x) for x in rounds] for number, rounds in LOGARITHMS.items()}
NUMBERS = (0, 0, 0, 1, 1, 1, 2, 2, 2)


def p_of_2(t):
    """Return the two-sided p value with 2 degrees of freedom, which has a closed form."""
    return 1 - t / math.sqrt(2 + t * t)


def logs_around(middle, deviation=0.1):
    """Return the times of three generations of one round, relative to times of 1."""
    return {place: [math.exp(middle + deviation * (place - 1))] for place in range(3)}


def test_with_long_steps_the_median_of_a_generations_rounds_is_one_observation():
    """The slower row's median is 1 s or more, so each round is a window of its own."""
    found = time_ratio(OURS, ONES)
    error = 0.2 / math.sqrt(3)

    assert found.centre == pytest.approx(math.exp(0.3))
    assert found.low == pytest.approx(math.exp(0.3 - T_2 * error), rel=1e-6)
    assert found.high == pytest.approx(math.exp(0.3 + T_2 * error), rel=1e-6)
    assert (found.generations, found.rounds) == (3, 9)
    assert (found.least, found.largest) == pytest.approx((math.exp(-2), math.exp(5)))
    assert centre_of_ratio(OURS, ONES) == found.centre


def test_with_short_steps_the_quickest_third_of_a_windows_visits_counts():
    """The slower row takes 0.25 s, so a window has four rounds; of four visits, two count."""
    ours = {0: [0.25, 9.0, 0.25, 0.25, 0.4, 0.1, 0.3, 0.2]}
    theirs = {0: [0.05, 0.05, 0.05, 0.05, 0.2, 0.1, 0.1, 0.2]}

    def in_windows(count):
        cut = {0: ours[0][: 4 * count]}, {0: theirs[0][: 4 * count]}
        return time_ratio(*cut).centre

    assert in_windows(1) == pytest.approx(5)  # 0.25 / 0.05
    # The second window: the geometric mean of 0.1 and 0.2, over 0.1.
    assert in_windows(2) == pytest.approx(math.sqrt(5 * math.sqrt(2)))


@pytest.mark.parametrize(
    ("seconds", "rounds", "windows"),
    [(1.0, 6, 6), (0.99, 6, 3), (0.5, 6, 3), (0.3, 6, 2), (0.3, 5, 1), (0.1, 6, 1), (0.101, 15, 2)],
)
def test_a_window_has_about_a_second_of_visits_of_the_slower_row(seconds, rounds, windows):
    """The ratio of round n is 1 + n / 100; the quickest visits of a window are its first ones."""
    ours = [seconds * (1 + place / 100) for place in range(rounds)]
    scale = seconds / statistics.median(ours)
    found = time_ratio({0: [scale * time for time in ours]}, {0: [1e-3] * rounds})
    ends = [rounds * place // windows for place in range(windows + 1)]
    expected = statistics.median(
        statistics.fmean(math.log(scale * ours[start + n] / 1e-3) for n in range(quick))
        for start, end in itertools.pairwise(ends)
        for quick in [math.ceil((end - start) / 3)]
    )

    assert math.log(found.centre) == pytest.approx(expected)


def test_the_p_value_is_that_of_students_t():
    """T is 0.3 / (0.2 / sqrt(3)) = 2.598; of a ratio of exp(0.5) it is 1.732."""
    found = time_ratio(OURS, ONES)

    assert found.p() == pytest.approx(p_of_2(1.5 * math.sqrt(3)))
    assert found.p(math.exp(0.5)) == pytest.approx(p_of_2(math.sqrt(3)))
    assert found.p(found.low) == pytest.approx(0.05)


def test_ratios_without_spread_have_p_values_of_0_and_1():
    doubled = time_ratio({n: [2.0] * 3 for n in ONES}, ONES)

    assert (doubled.p(), doubled.p(2.0)) == (0.0, 1.0)
    assert time_ratio(ONES, ONES).p() == 1.0


def test_visits_are_paired_by_the_number_of_their_generation_and_by_their_round():
    """Generation 1 is missing in theirs, and the last round of generation 2 in ours."""
    ours = {0: [2.0, 2.0], 1: [100.0], 2: [8.0]}
    theirs = {2: [1.0, 900.0], 0: [1.0, 1.0], 7: [900.0]}
    found = time_ratio(ours, theirs)

    assert found.centre == pytest.approx(4.0)  # of 2 and 8
    assert (found.generations, found.rounds) == (2, 3)


def test_two_generations_of_many_rounds_give_no_interval():
    found = time_ratio({0: [2.0] * 50, 1: [2.1] * 50}, {0: [1.0] * 50, 1: [1.0] * 50})

    assert (found.low, found.high, found.p(), found.rounds) == (None, None, None, 100)
    assert not found.differs()


def test_a_round_without_a_time_is_left_out():
    """No clock reads 0 seconds; generation 1 has no other round."""
    found = time_ratio({0: [0.0, 2.0], 1: [0.0], 2: [2.0]}, {0: [1, 1], 1: [1], 2: [1]})

    assert (found.centre, found.generations, found.rounds) == (pytest.approx(2.0), 2, 2)
    assert time_ratio({0: [0.0]}, {0: [1.0]}) is None
    assert centre_of_ratio({}, {}) is None


def test_samples_are_sorted_into_their_generations():
    assert by_generation([1, 2, 3, 4, 5], 3, (0, 0, 4, 4, 4)) == {0: [1, 2], 4: [3, 4, 5]}


def test_a_visit_without_a_generation_is_one_of_its_own():
    """Visits of three samples count by their medians; the last one was cut short."""
    assert by_generation([1, 2, 9, 5, 4], 3) == {0: (2,), 1: (4.5,)}


def test_p_values_are_corrected_for_the_ratios_that_have_one():
    """Of three ratios, two have an interval: the smaller p value counts twice."""
    near, far = logs_around(0.28), logs_around(0.9)
    base = {number: [1.0] for number in range(3)}
    ratios = [time_ratio(near, base), None, time_ratio(far, base), time_ratio({0: [2]}, base)]
    p_near, p_far = (p_of_2(middle * math.sqrt(3) / 0.1) for middle in (0.28, 0.9))

    assert 2 * p_far < p_near < 0.05 < 2 * p_near
    assert corrected_ps(ratios) == [pytest.approx(p_near), None, pytest.approx(2 * p_far), None]


@pytest.fixture
def judge(make):
    """Return a judge of rows by the middle of the logarithms of their three ratios."""

    def judge(*middles):
        rows = {"bsr": [1.0] * 3} | {
            f"m{place}": [time for (time,) in logs_around(middle).values()]
            for place, middle in enumerate(middles)
        }
        comparison = only([make(name, step_seconds=times) for name, times in rows.items()])
        pairs = [Pair(row, comparison.find("bsr"), "") for row in comparison.rows[1:]]
        found = contrast(pairs, no_details)
        return [one.find("step_seconds").verdict for one in found]

    return judge


def test_times_of_several_rows_are_judged_by_holms_correction(judge):
    """T of 0.28 is 4.85: p 0.040 passes alone, and beside a row that passes with twice its p."""
    alone, pair = judge(0.28), judge(0.28, 0.28)

    assert [verdict.word for verdict in alone] == [VerdictWord.WORSE]
    assert [verdict.word for verdict in pair] == [VerdictWord.INCONCLUSIVE] * 2
    assert pair[0].why == (
        "the interval excludes 1, but the test does not pass, with 2 simultaneous comparisons "
        "(p 0.080)"
    )
    assert [verdict.word for verdict in judge(0.28, -0.9)] == ["worse", "better"]


def with_generations(record, numbers=NUMBERS):
    timing = ClockDetail(generations={"step_seconds": numbers})
    return altered(record, environment={"timing": timing})


@pytest.fixture
def in_generations(make):
    """Return the records of two rows in three generations of three rounds."""
    ours = [time for rounds in OURS.values() for time in rounds]
    rows = {"full": [1.0] * 9, "mine": ours}
    return [with_generations(make(name, step_seconds=times)) for name, times in rows.items()]


def test_records_say_which_samples_belong_to_a_generation(in_generations):
    found = only(in_generations)
    (compared,) = contrast([Pair(found.find("mine"), found.find("full"), "")], no_details)
    finding = compared.find("step_seconds")

    assert found.time_ratio(found.find("mine")) == time_ratio(OURS, ONES)
    assert found.ratio(found.find("mine"), "step_seconds") == pytest.approx(math.exp(0.3))
    assert finding.pairs == 3
    assert finding.verdict.why == "the interval contains 1"


def test_stored_rows_have_the_generations_of_the_row_that_was_added(make):
    """Full was timed again beside mine: 1 and then 2 s, in generations of three rounds."""
    full = make("full", step_seconds=[7.0] * 3, group="before")
    again = [1.0] * 3 + [2.0] * 6
    mine = make("mine", step_seconds=[3.0] * 3 + [4.0] * 6, group="after")
    mine = altered(with_generations(mine), beside={full.key: {"step_seconds": again}})
    found = only([full, mine])
    ratio = found.time_ratio(found.find("mine"))

    assert ratio.centre == pytest.approx((3 * 2 * 2) ** (1 / 3))
    assert (ratio.generations, ratio.rounds) == (3, 9)


@pytest.mark.parametrize("numbers", [NUMBERS[:8], (*NUMBERS, 3)])
def test_samples_whose_generations_are_not_known_have_no_ratio(in_generations, numbers):
    full, mine = in_generations
    found = only([full, with_generations(mine, numbers)])

    assert found.time_ratio(found.find("mine")) is None
    assert found.ratio(found.find("mine"), "step_seconds") is None


def test_the_csv_has_the_ends_of_each_interval_of_times(in_generations, tmp_path):
    csv_table.write([only(in_generations)], tmp_path / "comparison.csv")
    with (tmp_path / "comparison.csv").open(newline="") as file:
        _, line = csv.DictReader(file)
    reach = T_2 * 0.2 / math.sqrt(3)
    columns = [f"step_seconds_over_full{end}" for end in ("", "_low", "_high")]

    assert list(map(float, map(line.get, columns))) == pytest.approx(
        [math.exp(0.3), math.exp(0.3 - reach), math.exp(0.3 + reach)], rel=1e-6
    )
    assert line["step_seconds_over_bsr"] == line["step_seconds_over_bsr_low"] == ""
    assert "step_flop_over_full_low" not in line  # exact numbers have no interval
