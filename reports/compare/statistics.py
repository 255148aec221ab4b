"""Summaries of samples."""

import functools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import scipy  # its modules load on first use; scipy.stats takes two seconds

from bsrbench.harness.records.ratio_interval import CONFIDENCE, Ratio

DOCTOR_CONFIDENCE = 0.99  # one of a hundred identical pairs appears to differ
NOISY = 0.1  # torch.utils.benchmark warns at the same share
MOST_FOR_T = 20  # pairs; with more, the bootstrap, which assumes no normal distribution
RESAMPLES = 9999


@dataclass(frozen=True)
class Summary:
    """A centre and a spread.

    Attributes:
        centre: mean or median.
        low: lower end of the spread.
        high: upper end.
        count: number of samples.
    """

    centre: float
    low: float
    high: float
    count: int

    def noisy(self) -> bool:
        """Tell whether the spread is wider than a tenth of the centre."""
        return self.high - self.low > NOISY * self.centre


def mean(numbers: Sequence[float]) -> float:
    """Return the mean as the page computes it: summed in order, unlike ``sum`` of Python 3.12."""
    return functools.reduce(operator.add, numbers) / len(numbers)


def mean_and_range(samples: Sequence[float]) -> Summary | None:
    """Return mean, smallest and largest value; two or three seeds do not allow more."""
    if not samples:
        return None
    return Summary(mean(samples), min(samples), max(samples), len(samples))


def median_and_quartiles(samples: Sequence[float]) -> Summary | None:
    """Return the median and the quartiles."""
    if not samples:
        return None
    ordered = sorted(samples)
    low, centre, high = (quantile(ordered, share) for share in (0.25, 0.5, 0.75))
    return Summary(centre, low, high, len(samples))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation, as numpy does; a report needs ten thousands."""
    place = (len(ordered) - 1) * share
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    part, step = place - below, ordered[above] - ordered[below]
    if part >= 0.5:  # noqa: PLR2004 - as numpy, from the nearer end
        return float(ordered[above] - step * (1 - part))
    return float(ordered[below] + step * part)


@dataclass(frozen=True)
class Difference:
    """The mean difference of pairs, with an interval and a test.

    Attributes:
        centre: mean of the differences.
        low: lower end of the interval at ``CONFIDENCE``; ``None`` if the pairs have no spread.
        high: upper end of the interval.
        pairs: number of pairs.
        p: p value of the sign-flip test; its null hypothesis is that the differences are
            symmetric around 0. ``None`` without a test.
    """

    centre: float
    low: float | None
    high: float | None
    pairs: int
    p: float | None


def paired_difference(differences: Sequence[float]) -> Difference | None:
    """Return the mean of paired differences with its interval and test; ``None`` without pairs.

    Up to ``MOST_FOR_T`` pairs the interval is Student's t, with more pairs the BCa bootstrap
    (Efron 1987). The sign-flip test uses every combination of signs if there are at most
    ``RESAMPLES``; otherwise it draws ``RESAMPLES`` combinations with a fixed seed. Differences that
    are all equal have no spread, so there is no interval and no test; if all are 0, the interval
    is 0.
    """
    pairs = len(differences)
    if not pairs:
        return None
    centre = fmean(differences)
    if all(math.isclose(d, differences[0], rel_tol=0, abs_tol=1e-12) for d in differences):
        bound = 0.0 if pairs > 1 and math.isclose(centre, 0, abs_tol=1e-12) else None
        return Difference(centre, bound, bound, pairs, None)
    low, high = _t_interval(differences) if pairs <= MOST_FOR_T else _bca_interval(differences)
    return Difference(centre, low, high, pairs, _sign_flip(differences))


def _t_interval(samples: Sequence[float]) -> tuple[float, float]:
    interval = scipy.stats.ttest_1samp(samples, 0).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def _bca_interval(samples: Sequence[float]) -> tuple[float, float]:
    interval = scipy.stats.bootstrap(
        (samples,), np.mean, confidence_level=CONFIDENCE, n_resamples=RESAMPLES, rng=0
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _sign_flip(samples: Sequence[float]) -> float:
    test = scipy.stats.permutation_test(
        (samples,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, rng=0, axis=-1
    )
    return float(test.pvalue)


def can_be_significant(pairs: int, comparisons: int = 1) -> bool:
    """Tell whether this number of pairs can pass the sign-flip test with Holm's correction."""
    return comparisons * _least_p(pairs) <= 1 - CONFIDENCE


def _least_p(pairs: int) -> float:
    """Return the smallest possible p value of the sign-flip test, which needs equal signs."""
    if 2**pairs <= RESAMPLES:
        return 2.0 ** (1 - pairs)
    return 2 / (RESAMPLES + 1)  # no drawn flip is as extreme as the observed signs


def holm(ps: Sequence[float]) -> list[float]:
    """Return p values, corrected for their number by Holm (1979), in the same order."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    corrected = [1.0] * len(ps)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        corrected[index] = largest
    return corrected


def corrected_ps(ratios: Iterable[Ratio | None], expected: float = 1.0) -> list[float | None]:
    """Return the p value of each ratio, corrected by Holm's method for the number of ratios.

    A ratio that is ``None`` or has no interval has no p value and is not counted.
    """
    ps = [ratio.p(expected) if ratio else None for ratio in ratios]
    corrected = iter(holm([p for p in ps if p is not None]))
    return [None if p is None else next(corrected) for p in ps]


def time_to(seconds: Sequence[float], accuracies: Sequence[float], target: float) -> float | None:
    """Return the time at which a curve first reached an accuracy; ``None`` if it did not."""
    pairs = zip(seconds, accuracies, strict=True)
    return next((when for when, accuracy in pairs if accuracy >= target), None)


def accuracy_within(
    seconds: Sequence[float], accuracies: Sequence[float], budget: float
) -> float | None:
    """Return the last accuracy of a curve within a time; ``None`` if the time is too short."""
    read = [a for when, a in zip(seconds, accuracies, strict=True) if when <= budget]
    return read[-1] if read else None
