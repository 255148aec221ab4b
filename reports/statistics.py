"""Summaries of samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np
from scipy import stats

RATIO_CONFIDENCE = 0.99  # so that one of a hundred identical pairs seems to differ
FEWEST_ROUNDS = 3  # two give an interval from nothing to anything
NOISY = 0.1  # torch.utils.benchmark warns at the same share


@dataclass(frozen=True)
class Summary:
    """A centre and a spread.

    Attributes:
        centre: mean or median, as the maker says.
        low: lower end of the spread.
        high: upper end.
        count: samples behind it.
    """

    centre: float
    low: float
    high: float
    count: int

    def noisy(self) -> bool:
        """Tell whether the spread is wider than a tenth of the centre."""
        return self.high - self.low > NOISY * self.centre


def mean_and_range(samples: Sequence[float]) -> Summary | None:
    """Return mean, smallest and largest: all that two or three seeds can show honestly."""
    if not samples:
        return None
    return Summary(float(np.mean(samples)), min(samples), max(samples), len(samples))


def median_and_quartiles(samples: Sequence[float]) -> Summary | None:
    """Return the median and the quartiles."""
    if not samples:
        return None
    low, centre, high = (float(q) for q in np.quantile(samples, [0.25, 0.5, 0.75]))
    return Summary(centre, low, high, len(samples))


@dataclass(frozen=True)
class Ratio:
    """How many times as long one row took as another, with an interval.

    Attributes:
        centre: geometric mean of the rounds' ratios.
        low: lower end of the interval; ``None`` where fewer than three rounds show no spread
            worth the name.
        high: upper end.
        rounds: how many rounds both were visited in.
        least: smallest ratio of a round.
        largest: largest ratio of a round.
    """

    centre: float
    low: float | None
    high: float | None
    rounds: int
    least: float
    largest: float

    def differs(self) -> bool:
        """Tell whether the interval leaves out 1: of identical rows about 1 in 100 does."""
        return None not in {self.low, self.high} and not self.low <= 1 <= self.high  # type: ignore[operator]  # neither is None


def time_ratio(ours: Sequence[float], theirs: Sequence[float], a_round: int) -> Ratio | None:
    """Return the ratio of two rows' times from the rounds both were visited in.

    A visit's samples are one observation, their median, for they share a process. The logarithms
    of the rounds' ratios give Student's t interval at ``RATIO_CONFIDENCE``.

    Args:
        ours: samples in order, ``a_round`` of each visit.
        theirs: the same of the row compared with.
        a_round: samples of a visit.
    """
    ratios = [
        math.log(median(a) / median(b))
        for a, b in zip(_visits(ours, a_round), _visits(theirs, a_round), strict=False)
    ]
    if not ratios:
        return None
    centre = fmean(ratios)
    seen = len(ratios), math.exp(min(ratios)), math.exp(max(ratios))
    if len(ratios) < FEWEST_ROUNDS:
        return Ratio(math.exp(centre), None, None, *seen)
    error = stdev(ratios) / math.sqrt(len(ratios))
    reach = float(stats.t.ppf((1 + RATIO_CONFIDENCE) / 2, len(ratios) - 1)) * error
    low, high = math.exp(centre - reach), math.exp(centre + reach)
    return Ratio(math.exp(centre), low, high, *seen)


def _visits(samples: Sequence[float], size: int) -> list[Sequence[float]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def time_to(seconds: Sequence[float], accuracies: Sequence[float], target: float) -> float | None:
    """Return when a curve's first reading reached an accuracy; ``None`` if none did."""
    pairs = zip(seconds, accuracies, strict=True)
    return next((when for when, accuracy in pairs if accuracy >= target), None)


def accuracy_within(
    seconds: Sequence[float], accuracies: Sequence[float], budget: float
) -> float | None:
    """Return the last accuracy that a curve read within a time; ``None`` if that was too short."""
    read = [a for when, a in zip(seconds, accuracies, strict=True) if when <= budget]
    return read[-1] if read else None
