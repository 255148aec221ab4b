"""The power of the rule that judges accuracies: how many pairs of seeds it needs."""

import functools
import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy

from bsrbench.harness.records.ratio_interval import CONFIDENCE, t_quantile
from bsrbench.reports.compare.statistics import can_be_significant

POWER = 0.8  # the share of repetitions in which a true difference should be detected
MOST_PAIRS = 1000  # the largest number of pairs that is tried
# With three pairs, the 95 % interval of the true spread is 0.5 to 6 times the observed spread.
FEWEST_FOR_SPREAD = 4
# Pairs. Up to this number the rule uses every combination of signs, and so does the simulation.
MOST_SIMULATED = 13
# The flips are those of all draws together. They take 0.1 s; the random error is 1 %.
MOST_DRAWS, MOST_FLIPS = 20_000, 2**23
AT_ONCE = 2**20  # flips that are in memory at the same time: 8 MB

SURELY = 4  # times the bound of a test: a difference this large is always detected
ROUNDING = 1e-12  # relative error of a sum if its terms are added in another order

Floats = npt.NDArray[np.float64]


def power(effect: float, pairs: int, comparisons: int = 1) -> float:
    """Return the power: the share of repetitions in which a true difference is detected.

    The rule is that of ``verdict.of_pairs``: the t interval excludes 0 and the sign-flip test
    passes with the strictest correction of Holm, as if no other comparison passed. Up to 13 pairs
    the rule is simulated, always with the same draws. With more pairs the sign-flip test is
    approximated by a t test at the corrected level, which is stricter than the interval.

    Args:
        effect: the true mean difference, in standard deviations of a pair's difference.
        pairs: at least 2.
        comparisons: the number of simultaneous comparisons.
    """
    if not can_be_significant(pairs, comparisons):
        return 0.0
    if pairs > MOST_SIMULATED:
        return t_test_power(effect, pairs, (1 - CONFIDENCE) / comparisons)
    draws = effect + _noise(pairs)
    apart = draws[_t_interval_leaves_out_zero(draws)]
    step = AT_ONCE // 2**pairs
    parts = (apart[start : start + step] for start in range(0, len(apart), step))
    passed = sum(np.sum(comparisons * _sign_flip_p(part) <= 1 - CONFIDENCE) for part in parts)
    return float(passed / len(draws))


def pairs_to_show(effect: float, comparisons: int = 1) -> int | None:
    """Return the smallest number of pairs that detect a true difference with ``POWER``.

    ``None`` means more than ``MOST_PAIRS``.

    Args:
        effect: the true mean difference, in standard deviations of a pair's difference.
        comparisons: the number of simultaneous comparisons.
    """
    fewest = _first(2, lambda pairs: t_test_power(effect, pairs, 1 - CONFIDENCE))
    # The rule never detects more than the t test alone.
    for pairs in range(fewest, MOST_SIMULATED + 1):
        if power(effect, pairs, comparisons) >= POWER:
            return pairs
    beyond = max(fewest, MOST_SIMULATED + 1)
    fewest = _first(beyond, lambda pairs: power(effect, pairs, comparisons))
    return fewest if fewest <= MOST_PAIRS else None


def t_test_power(effect: float, pairs: int, level: float) -> float:
    """Return the power of a t test for a true mean difference.

    Args:
        effect: the true mean difference, in standard deviations of a pair's difference.
        pairs: at least 2.
        level: the level of the two-sided test.
    """
    away = abs(effect) * math.sqrt(pairs)
    bound = t_quantile(1 - level / 2, pairs - 1)
    if away > SURELY * bound:
        return 1.0  # scipy returns no valid numbers this far out
    above = scipy.stats.nct.sf(bound, pairs - 1, away)
    return float(above + scipy.stats.nct.cdf(-bound, pairs - 1, away))


def _first(start: int, power_of: Callable[[int], float]) -> int:
    """Return the smallest number of pairs whose power is sufficient; power grows with pairs."""
    return bisect_left(range(MOST_PAIRS + 1), POWER, lo=start, key=power_of)


@functools.lru_cache(maxsize=MOST_SIMULATED)
def _noise(pairs: int) -> Floats:
    """Return random differences of pairs with a true mean of 0, [draws, pairs]."""
    draws = min(MOST_DRAWS, MOST_FLIPS // 2**pairs)
    return np.random.default_rng(pairs).standard_normal((draws, pairs))


def _t_interval_leaves_out_zero(draws: Floats) -> npt.NDArray[np.bool_]:
    pairs = draws.shape[1]
    reach = t_quantile((1 + CONFIDENCE) / 2, pairs - 1) / math.sqrt(pairs)
    return np.asarray(np.abs(draws.mean(axis=1)) > reach * draws.std(axis=1, ddof=1))


def _sign_flip_p(draws: Floats) -> Floats:
    """Return each draw's p value: the share of sign flips with a sum at least as far from 0."""
    sums = draws[:, :1]  # the first sign is fixed: flipping all signs keeps the distance from 0
    for column in draws.T[1:]:
        sums = np.concatenate([sums + column[:, None], sums - column[:, None]], axis=1)
    seen = np.abs(draws.sum(axis=1, keepdims=True)) * (1 - ROUNDING)
    return np.asarray((np.abs(sums) >= seen).mean(axis=1))
