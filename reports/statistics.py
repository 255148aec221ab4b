"""Summaries of samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
