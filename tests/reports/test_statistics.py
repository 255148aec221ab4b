"""Intervals cover what they say, on simulated machines."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from harness.launch.round_group import time_in_turns
from harness.spec import Profile
from harness.trial import PassResult
from reports.statistics import RATIO_CONFIDENCE, accuracy_within, time_ratio, time_to

DRAWS = 2000
SURE = 0.999  # a right procedure fails a test of ours once in a thousand


class Machine:
    """A machine whose speed drifts, whose processes differ, and whose steps scatter."""

    def __init__(self, seed, slower=1.0):
        self.random = np.random.default_rng(seed)
        self.clock, self.slower = 0.0, slower

    def visit(self, spec, _):
        """Return the steps of one process: all share its luck, and the drift of the moment."""
        slower = self.slower if spec.method == "bsr" else 1.0
        luck = math.exp(self.random.normal(0, 0.03))
        samples = []
        for _ in range(spec.profile.steps):
            drift = 1 + 0.05 * self.clock / 100
            samples.append(0.1 * slower * luck * drift * math.exp(self.random.normal(0, 0.02)))
            self.clock += samples[-1]
        reading = {"measurements": {"step_seconds": samples}, "missing": {}, "notes": []}
        return PassResult(reading=reading | {"detail": {}})


class Planned:
    def __init__(self, spec, key):
        self.spec, self.key = spec, key


def compared(make_spec, seed, slower):
    """Time two rows in turns at the default settings and return the ratio of the second."""
    machine = Machine(seed, slower)
    group = [Planned(make_spec(name, profile=Profile()), name) for name in ("full", "bsr")]
    timed = time_in_turns(group, machine.visit, lambda: machine.clock)
    ours, theirs = (timed[name].reading["measurements"]["step_seconds"] for name in ("bsr", "full"))
    return time_ratio(ours, theirs, Profile().steps)


def test_identical_rows_seem_to_differ_about_once_in_a_hundred(make_spec):
    """Between the bounds of 2,000 tosses of a coin that falls so once in a hundred."""
    differ = sum(compared(make_spec, seed, 1.0).differs() for seed in range(DRAWS))
    rare = 1 - RATIO_CONFIDENCE

    assert binom.ppf(1 - SURE, DRAWS, rare) <= differ <= binom.ppf(SURE, DRAWS, rare)


def test_the_interval_covers_the_true_ratio(make_spec):
    ratios = [compared(make_spec, seed, 1.2) for seed in range(DRAWS)]
    missed = sum(not ratio.low <= 1.2 <= ratio.high for ratio in ratios)

    assert missed <= binom.ppf(SURE, DRAWS, 1 - RATIO_CONFIDENCE)
    assert sum(ratio.differs() for ratio in ratios) > DRAWS / 2


@pytest.mark.parametrize("rounds", [1, 2])
def test_fewer_than_three_rounds_give_a_ratio_without_an_interval(rounds):
    ratio = time_ratio([2.0, 2.0] * rounds, [1.0, 1.0] * rounds, 2)

    assert (ratio.centre, ratio.low, ratio.differs()) == (pytest.approx(2.0), None, False)


def test_ratios_are_of_each_rounds_medians():
    """Rounds of 3: medians 2 and 8 over 1 and 2, whose geometric mean is sqrt(2 x 4)."""
    ratio = time_ratio([1, 2, 9, 8, 8, 8], [1, 1, 1, 2, 2, 9], 3)

    assert ratio.centre == pytest.approx(math.sqrt(8))
    assert ratio.rounds == 2


def test_a_curve_says_when_and_how_much():
    """Only what was read counts: nothing is drawn between two readings."""
    curve = [10.0, 20.0, 30.0], [0.5, 0.8, 0.7]

    assert time_to(*curve, 0.6) == 20.0
    assert time_to(*curve, 0.9) is None
    assert accuracy_within(*curve, 25.0) == 0.8
    assert accuracy_within(*curve, 30.0) == 0.7
    assert accuracy_within(*curve, 5.0) is None
