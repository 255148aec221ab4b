"""Decide whether the ratio of two rows' times is beyond a limit, or whether that is open."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bsrbench.harness.records.ratio_interval import CONFIDENCE, Ratio, t_quantile
from bsrbench.reports.compare.statistics import holm

MOST_GENERATIONS = 1000  # nobody measures more


@dataclass(frozen=True)
class TimeLimit:
    """A limit on a ratio of times.

    Attributes:
        ratio: the ratio with its interval.
        limit: the number with which it is compared.
        is_beyond: tells whether a ratio is on the wrong side of the limit.
    """

    ratio: Ratio
    limit: float
    is_beyond: Callable[[float], bool]

    def p(self) -> float | None:
        """Return the p value of the ratio being the limit; ``None`` without an interval."""
        return 0.0 if self.limit <= 0 else self.ratio.p(self.limit)

    def decided(self, p: float) -> bool | None:
        """Tell whether the ratio is beyond the limit; ``None`` if that is not decided.

        It is decided if the interval does not contain the limit. A ratio that is beyond must also
        pass the test, so that no limit is broken by chance because there are many of them.

        Args:
            p: the p value, corrected for the number of limits.
        """
        low, high = self.ratio.low, self.ratio.high
        beyond = self.is_beyond(self.ratio.centre)
        if low is None or high is None:
            return None
        if low == high:  # all generations have the same ratio
            return beyond
        if low <= self.limit <= high:
            return None
        return None if beyond and p > 1 - CONFIDENCE else beyond

    def margin(self) -> float:
        """Return the distance of the limit from the ratio, as a share of the ratio."""
        return abs(self.limit / self.ratio.centre - 1)

    def generations_needed(self, limits: int) -> int | None:
        """Return how many generations decide, if the ratio and its spread stay the same.

        ``None`` if more than ``MOST_GENERATIONS`` are needed.

        Args:
            limits: number of limits that are tested together.
        """
        ratio = self.ratio
        if ratio.error is None or self.limit <= 0:
            return None
        error_share = 1 - CONFIDENCE
        if self.is_beyond(ratio.centre):
            error_share /= limits
        away = abs(math.log(self.limit / ratio.centre))
        spread = ratio.error * math.sqrt(ratio.generations)
        choices = range(ratio.generations + 1, MOST_GENERATIONS + 1)
        return next(
            (
                count
                for count in choices
                if t_quantile(1 - error_share / 2, count - 1) * spread < away * math.sqrt(count)
            ),
            None,
        )


def corrected(limits: list[TimeLimit]) -> list[float]:
    """Return the p value of each limit, corrected by Holm's method for their number.

    Limits without an interval are not counted; their p value is 1.
    """
    ps = [limit.p() for limit in limits]
    tested = iter(holm([p for p in ps if p is not None]))
    return [1.0 if p is None else next(tested) for p in ps]
