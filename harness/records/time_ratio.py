"""The ratio of two rows' times over process generations, with an interval."""

import math
from collections.abc import Sequence
from statistics import fmean, median

import scipy  # its modules load on first use

SHORTEST_SECONDS = 1e-12  # no clock resolves less; a shorter time has no ratio


def ratio_over_generations(
    ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], confidence: float
) -> tuple[float, float, float] | None:
    """Return the ratio of two rows' times with both ends of its interval; ``None`` without pairs.

    The visits of a generation share the luck of their processes, so a generation is one
    observation: the median of the logarithms of its rounds' ratios. The interval is Student's t
    interval of these observations. So it covers both the luck of processes and the luck of visits.
    With one generation, it is unbounded.

    Args:
        ours: seconds by generation and round.
        theirs: the same for the other row, in the same rounds.
        confidence: confidence level of the interval.
    """
    generations = [
        median(logarithms)
        for pair in zip(ours, theirs, strict=False)
        if (logarithms := _logarithms(*pair))
    ]
    if not generations:
        return None
    centre = fmean(generations)
    if len(generations) == 1:
        return math.exp(centre), 0.0, math.inf
    freedom = len(generations) - 1
    spread = math.fsum((each - centre) ** 2 for each in generations) / freedom
    quantile = float(scipy.special.stdtrit(freedom, (1 + confidence) / 2))
    reach = quantile * math.sqrt(spread / len(generations))
    return math.exp(centre), math.exp(centre - reach), math.exp(centre + reach)


def _logarithms(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the logarithm of the ratio of each round in which both rows have a time above 0."""
    pairs = zip(ours, theirs, strict=False)
    return [math.log(a / b) for a, b in pairs if min(a, b) >= SHORTEST_SECONDS]
