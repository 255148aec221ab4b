"""The ratio of two rows' times, with an interval and a test on two levels.

The times of one process are alike, because its memory lies where it lies. So the rounds of one
process generation count as one observation. The spread between generations then contains both
kinds of luck, between processes and within them.

What disturbs a step makes it longer and never shorter. Of short steps, some are not disturbed at
all, so the quickest third of the visits says more than their median. A long step contains many
disturbances, and what remains is the slow drift of the machine, which two visits of one round
share. Hence the windows of ``_observation``.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import scipy  # its modules load on first use

CONFIDENCE = 0.95
SHORTEST_SECONDS = 1e-12  # no clock resolves less; a shorter time has no ratio
FEWEST_GENERATIONS = 3  # the interval of two generations is too wide to be useful
ROUNDING = 1e-12  # rounding error of a mean of logarithms
WINDOW_SECONDS = 1.0  # time of the slower row's visits in a window of rounds
QUICKEST_SHARE = 3  # one visit in so many of a window counts: the quickest ones

# Number of a process generation -> the time of a row in each of its rounds.
Generations = Mapping[int, Sequence[float]]
Pairs = list[tuple[float, float]]  # the times of both rows, one pair per round


@dataclass(frozen=True)
class Ratio:
    """The time of one row divided by the time of another, with an interval.

    Attributes:
        centre: geometric mean of the ratios of the generations.
        low: lower end of the interval; ``None`` with fewer than three generations.
        high: upper end of the interval.
        rounds: number of rounds in which both rows were timed.
        least: smallest ratio of any round.
        largest: largest ratio of any round.
        generations: number of process generations in which both rows were timed.
        error: standard error of the logarithm of ``centre``; ``None`` without an interval.
        freedom: degrees of freedom of the interval and the test.
    """

    centre: float
    low: float | None
    high: float | None
    rounds: int
    least: float
    largest: float
    generations: int = 0
    error: float | None = None
    freedom: int = 0

    def differs(self) -> bool:
        """Tell whether the interval excludes 1."""
        return None not in {self.low, self.high} and not self.low <= 1 <= self.high  # type: ignore[operator]  # neither is None

    def p(self, expected: float = 1.0) -> float | None:
        """Return the p value of the t test that belongs to the interval.

        Args:
            expected: the ratio of the null hypothesis.

        Returns:
            The two-sided p value, not corrected; ``None`` without an interval.
        """
        if self.error is None:
            return None
        away = abs(math.log(self.centre / expected))
        if self.error <= ROUNDING:  # all generations have the same ratio
            return 1.0 if away <= ROUNDING else 0.0
        return float(2 * scipy.special.stdtr(self.freedom, -away / self.error))


@functools.lru_cache(maxsize=1024)
def t_quantile(share: float, freedom: int) -> float:
    """Return a quantile of Student's t distribution."""
    return float(scipy.special.stdtrit(freedom, share))


def by_generation(
    samples: Sequence[float], a_visit: int, numbers: Sequence[int] = ()
) -> Generations:
    """Return the times of one row in the rounds of each process generation.

    Args:
        samples: the samples of a metric in order.
        a_visit: number of samples per visit, if every visit had a process of its own. The median
            of a visit is then the only time of its generation.
        numbers: the generation of each sample, if one process made several visits. Each sample is
            then the time of a round. Empty otherwise.

    Raises:
        ValueError: there is not one number per sample.
    """
    if not numbers:
        visits = (samples[start : start + a_visit] for start in range(0, len(samples), a_visit))
        return {place: (median(visit),) for place, visit in enumerate(visits)}
    times: dict[int, list[float]] = {}
    for number, seconds in zip(numbers, samples, strict=True):
        times.setdefault(number, []).append(seconds)
    return times


def time_ratio(
    ours: Generations,
    theirs: Generations,
    confidence: float = CONFIDENCE,
    planned: int | None = None,
) -> Ratio | None:
    """Return the ratio of two rows' times from the rounds in which both were timed.

    A generation gives one observation (see ``_observation``). The interval is Student's t
    interval of these observations. It covers the luck of processes and the luck within them.

    Args:
        ours: the times of one row.
        theirs: the times of the other row.
        confidence: confidence level of the interval.
        planned: number of generations that was decided beforehand; ``None`` for all. If timing
            goes on until the interval is narrow, it ends early where the spread is small by
            chance. Generations beyond the planned ones therefore add no degrees of freedom
            (after Stein 1945); otherwise the interval would cover 92 % instead of 95 %.
    """
    generations = _pairs(ours, theirs)
    if not generations:
        return None
    values = [_observation(pairs) for pairs in generations]
    centre = fmean(values)
    every = [math.log(a / b) for pairs in generations for a, b in pairs]
    seen = len(every), math.exp(min(every)), math.exp(max(every)), len(values)
    if len(values) < FEWEST_GENERATIONS:
        return Ratio(math.exp(centre), None, None, *seen)
    # statistics.stdev computes with fractions: slower than everything else a report does here.
    spread = math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1)
    error = math.sqrt(spread / len(values))
    freedom = max(FEWEST_GENERATIONS, min(len(values), planned or len(values))) - 1
    reach = t_quantile((1 + confidence) / 2, freedom) * error
    low, high = math.exp(centre - reach), math.exp(centre + reach)
    return Ratio(math.exp(centre), low, high, *seen, error, freedom)


def centre_of_ratio(ours: Generations, theirs: Generations) -> float | None:
    """Return the centre of ``time_ratio`` alone."""
    generations = _pairs(ours, theirs)
    return math.exp(fmean(map(_observation, generations))) if generations else None


def _observation(pairs: Pairs) -> float:
    """Return what one generation says of the logarithm of the ratio.

    The rounds are divided into windows, in which the visits of the slower row take about
    ``WINDOW_SECONDS``. In a window, the quickest third of both rows' visits count. The result is
    the median over the windows. With long visits each round is a window of its own.
    """
    ours, theirs = zip(*pairs, strict=True)
    rounds = math.ceil(WINDOW_SECONDS / max(median(ours), median(theirs)))
    windows = max(1, math.floor(len(pairs) / rounds + 0.5))
    ends = [len(pairs) * place // windows for place in range(windows + 1)]
    return median(_of_window(pairs[start:end]) for start, end in itertools.pairwise(ends))


def _of_window(pairs: Pairs) -> float:
    """Return the logarithm of the ratio of both rows' geometric means over their quickest third."""
    if len(pairs) == 1:
        return math.log(pairs[0][0] / pairs[0][1])
    quickest = math.ceil(len(pairs) / QUICKEST_SHARE)
    ours, theirs = (sorted(times)[:quickest] for times in zip(*pairs, strict=True))
    return fmean(math.log(a / b) for a, b in zip(ours, theirs, strict=True))


def _pairs(ours: Generations, theirs: Generations) -> list[Pairs]:
    """Return both rows' times in the rounds in which both have one above 0, by generation.

    Visits are paired by the number of their generation and by their round in it. A generation
    without such a round is left out.
    """
    generations = (
        [
            (a, b)
            for a, b in zip(ours[number], theirs[number], strict=False)
            if min(a, b) >= SHORTEST_SECONDS
        ]
        for number in ours
        if number in theirs
    )
    return [pairs for pairs in generations if pairs]
