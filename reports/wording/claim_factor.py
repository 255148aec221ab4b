"""How much a row costs in relation to BSR, and how much of a claim that reaches."""

from collections.abc import Sequence
from dataclasses import dataclass

from bsrbench.harness.records.ratio_interval import CONFIDENCE
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import BASELINE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.repeated_timings import has_rounds
from bsrbench.reports.compare.statistics import corrected_ps

# How much of a claim is reached.
REACHED = "{:g} times or more against"
INCONCLUSIVE = "inconclusive against"
LESS = "a smaller saving than claimed against"
PERHAPS = "a smaller saving than claimed, perhaps none, against"
NOTHING = "no saving against"

ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True)
class Factor:
    """The cost of a row divided by the cost of BSR.

    Attributes:
        centre: the ratio; for times the geometric mean of the ratios per process generation.
        low: lower end of the interval, not corrected. It equals ``centre`` if the ratio is exact,
            and is ``None`` if there are too few generations for an interval.
        high: upper end of the interval.
        p_of_claim: p value of the claim as the null hypothesis, corrected for the number of rows.
            0 if the ratio has no spread.
        p_of_one: the same of a ratio of 1.
    """

    centre: float
    low: float | None
    high: float | None
    p_of_claim: float = 0.0
    p_of_one: float = 0.0

    def reaches(self, claim: float) -> bool:
        """Tell whether a claim is reached, by the number or for times by the test."""
        return self.low is not None and self.low >= claim and self.p_of_claim <= ALPHA

    def misses(self, claim: float) -> bool:
        """Tell whether the factor is below a claim, by the number or for times by the test."""
        return self.high is not None and self.high < claim and self.p_of_claim <= ALPHA

    def reach(self, claim: float) -> str:
        """Return the words that say how much of a claim is reached."""
        if self.reaches(claim):
            return REACHED.format(claim)
        if not self.misses(claim):
            return INCONCLUSIVE
        low, high = self.low or 0.0, self.high or 0.0
        if low <= 1 < high or self.p_of_one > ALPHA:
            return PERHAPS
        return NOTHING if high <= 1 else LESS

    def text(self) -> str:
        """Return the number, with its interval if it has one."""
        if self.low is None or self.low == self.high:
            return units.ratio(self.centre)
        return f"{units.ratio(self.centre)} [{units.plain(self.low)}, {units.plain(self.high)}]"


def factors(
    comparison: Comparison, rows: Sequence[ComparisonRow], metric: str, claim: float
) -> list[Factor | None]:
    """Return the factor of each row; ``None`` for a row without a ratio to BSR."""
    if not has_rounds(metric):
        exact = [comparison.ratio(row, metric, to=BASELINE) for row in rows]
        return [None if ratio is None else Factor(ratio, ratio, ratio) for ratio in exact]
    ratios = [comparison.time_ratio(row, metric, to=BASELINE) for row in rows]
    tests = zip(ratios, corrected_ps(ratios, claim), corrected_ps(ratios), strict=True)
    return [
        None
        if ratio is None
        else Factor(ratio.centre, ratio.low, ratio.high)
        if ratio.low == ratio.high
        else Factor(ratio.centre, ratio.low, ratio.high, of_claim or 0.0, of_one or 0.0)
        for ratio, of_claim, of_one in tests
    ]
