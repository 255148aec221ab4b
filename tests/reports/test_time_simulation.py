"""Intervals of times cover what they say, and identical rows seldom differ, on simulated machines.

docs/explanation/verdict.md has the numbers of this file.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from bsrbench.harness.records.ratio_interval import time_ratio
from bsrbench.reports.compare import verdict
from bsrbench.reports.compare.statistics import corrected_ps
from bsrbench.reports.compare.verdict import VerdictWord
from tests.reports.simulated_times import (
    DRIFT,
    LONG,
    LUCK,
    SHORT,
    SPIKES,
    Machine,
    intervals,
    intervals_of,
    logarithms,
)

RUNS = 10_000
ERROR = (0.95 * 0.05 / RUNS) ** 0.5  # standard error of a coverage of 95 %: 0.2 points
DOZENS, FEW = 30, 12  # rounds of a generation
ROWS, REPORTS = 11, 400
MACHINES = {
    "quiet": Machine(),
    "drift": Machine(drift=DRIFT),
    "neighbour, 2 visits": Machine(neighbour=2),
    "neighbour, 10 visits": Machine(neighbour=10),
    "neighbour, 100 visits": Machine(neighbour=100),
    "drift and neighbour": Machine(drift=DRIFT, neighbour=10),
    "spikes": Machine(spikes=SPIKES),
}


def covered(machine, generations, rounds, seed=0):
    """Return how often the interval of two identical rows contains 1."""
    random = np.random.default_rng(seed)
    logs = logarithms(random, machine, RUNS, 2, generations, rounds)
    middle, reach = intervals(logs[..., 1], logs[..., 0])
    return np.mean(np.abs(middle) <= reach)


def by_generation(logs, row):
    """Return the times of a row of one run, as ``time_ratio`` takes them."""
    return dict(enumerate(np.exp(logs[..., row]).tolist()))


@pytest.mark.parametrize("seconds", [LONG, 0.7, 0.3, SHORT])
@pytest.mark.parametrize("planned", [None, 3])
def test_the_simulation_computes_the_interval_of_the_reports(planned, seconds):
    random = np.random.default_rng(5)
    logs = logarithms(random, Machine(DRIFT, 10, SPIKES, seconds), 20, 2, 5, FEW)
    middle, reach = intervals(logs[..., 1], logs[..., 0], planned)
    for run, centre, half in zip(logs, middle, reach, strict=True):
        ratio = time_ratio(by_generation(run, 1), by_generation(run, 0), planned=planned)

        assert np.log([ratio.low, ratio.centre, ratio.high]) == pytest.approx(
            [centre - half, centre, centre + half]
        )


@pytest.mark.parametrize("generations", [3, 5, 10])
@pytest.mark.parametrize("name", MACHINES)
def test_the_interval_covers_94_to_96_of_100(name, generations):
    """The bounds are more than four standard errors of the simulation away from 95 %."""
    assert 4 * ERROR < 0.01
    for seconds in (LONG, SHORT):
        machine = replace(MACHINES[name], seconds=seconds)
        assert 0.94 <= covered(machine, generations, DOZENS) <= 0.96


@pytest.mark.parametrize("generations", [3, 5, 10])
def test_few_rounds_beside_a_short_neighbour_cover_more_than_they_say(generations):
    """With 12 rounds, the median of 3 in 100 generations is that of a disturbed round.

    Such generations lie far out, and Student's t is too wide for observations like these. Of short
    steps, the quickest third of 12 visits is more often disturbed as a whole.
    """
    for visits, least in ((2, 0.95), (10, 0.94)):
        for seconds in (LONG, SHORT):
            machine = Machine(neighbour=visits, seconds=seconds)
            assert least <= covered(machine, generations, FEW) <= 0.985


def test_the_quickest_visits_of_short_steps_vary_less_than_the_medians():
    """Spikes as on our machine: the interval is a third narrower with 7 rounds per generation."""
    random = np.random.default_rng(3)
    logs = logarithms(random, Machine(spikes=SPIKES, seconds=SHORT), 2000, 2, 8, 7)
    ours, theirs = logs[..., 1], logs[..., 0]
    _, reach = intervals(ours, theirs)
    _, of_medians = intervals_of(np.median(ours - theirs, axis=2))

    assert 0.65 <= np.mean(reach) / np.mean(of_medians) <= 0.75


@pytest.mark.parametrize("generations", [3, 5, 10])
def test_one_visit_per_process_covers_at_least_94_of_100(generations):
    """Records without generations: each visit has a process of its own."""
    for machine in MACHINES.values():
        assert 0.94 <= covered(machine, generations, 1) <= 0.99


def stopped_at_3_percent(planned, least=5, most=30, luck=0.045):
    """Return the coverage if generations are added until the half width is 3 %.

    Args:
        planned: as in ``time_ratio``.
        least: minimum number of generations.
        most: maximum number of generations.
        luck: deviation of the logarithm of a generation's ratio.
    """
    ratios = np.random.default_rng(7).normal(0, luck, (RUNS, most))
    going, hits = np.ones(RUNS, dtype=bool), 0
    for count in range(least, most + 1):
        middle, reach = intervals_of(ratios[:, :count], planned)
        ends = going & ((reach <= 0.03) | (count == most))
        hits += np.sum(ends & (np.abs(middle) <= reach))
        going &= ~ends
    return hits / RUNS


def test_generations_beyond_the_planned_ones_add_no_degrees_of_freedom():
    """Timing that ends when the interval is narrow ends where the spread is small by chance."""
    assert 0.92 <= stopped_at_3_percent(planned=None) <= 0.935
    assert 0.94 <= stopped_at_3_percent(planned=5) <= 0.96


def false_verdicts(machine, generations, rounds, *, corrected):
    """Return in how many reports of identical rows a row is called better or worse than the first.

    The verdicts are those of the reports; 400 reports are judged.
    """
    random = np.random.default_rng(9)
    wrong = 0
    for logs in logarithms(random, machine, REPORTS, ROWS, generations, rounds):
        times = [by_generation(logs, row) for row in range(ROWS)]
        ratios = [time_ratio(ours, times[0]) for ours in times[1:]]
        ps = corrected_ps(ratios) if corrected else [ratio.p() for ratio in ratios]
        judged = [
            verdict.of_time("step_seconds", ratio, p, len(ps)).word
            for ratio, p in zip(ratios, ps, strict=True)
        ]
        wrong += VerdictWord.BETTER in judged or VerdictWord.WORSE in judged
    return wrong


@pytest.mark.parametrize("generations", [3, 5, 10])
@pytest.mark.parametrize("name", ["quiet", "drift and neighbour", "spikes"])
def test_at_most_5_of_100_reports_of_11_identical_rows_have_a_false_verdict(name, generations):
    """Not more than a coin that falls so 5 times in 100 gives once in a thousand: 35 of 400."""
    for seconds in (LONG, SHORT):
        machine = replace(MACHINES[name], seconds=seconds)
        wrong = false_verdicts(machine, generations, FEW, corrected=True)

        assert wrong / REPORTS <= 0.05
        assert wrong <= binom.ppf(0.999, REPORTS, 0.05)


def test_without_the_correction_a_quarter_of_these_reports_would_have_one():
    assert false_verdicts(Machine(), 3, 1, corrected=False) / REPORTS > 0.25
    assert false_verdicts(Machine(), 3, 1, corrected=True) / REPORTS <= 0.05


def test_the_spread_between_processes_is_seen():
    """Many rounds of one generation do not narrow the interval below the luck of processes.

    With 5 generations: 2.776 x 0.03 x sqrt(2) / sqrt(5) = 0.0527, times the mean of a deviation
    of 5 observations, 0.94.
    """
    random = np.random.default_rng(11)
    logs = logarithms(random, Machine(), 2000, 2, 5, 50)
    _, reach = intervals(logs[..., 1], logs[..., 0])

    assert np.mean(reach) == pytest.approx(0.94 * 2.776 * LUCK * (2 / 5) ** 0.5, rel=0.03)
