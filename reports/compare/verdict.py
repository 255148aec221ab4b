"""The verdict on a difference: a word and a reason."""

from dataclasses import dataclass
from enum import StrEnum

from bsrbench.harness.records.metric import JudgementKind
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import CONFIDENCE, FEWEST_GENERATIONS, Ratio
from bsrbench.reports import units
from bsrbench.reports.compare.statistics import MOST_FOR_T, Difference, can_be_significant


class VerdictWord(StrEnum):
    """The verdict on a new method against the baseline in one metric."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    INCONCLUSIVE = "inconclusive"
    NONE = "no verdict"


# Differences up to these are too small to choose a method by. They are shares of the baseline's
# value; for accuracies they are differences of the accuracies. Counted bytes and FLOPs are exact,
# but 1 % of them is still irrelevant. The bytes of a process include pages of libraries. Times on
# a quiet machine repeat within 5 %.
EXACT_SHARE, PROCESS_SHARE, TIME_SHARE, ACCURACY_POINTS = 0.01, 0.05, 0.05, 0.005
ROUNDING = 1e-12  # rounding error of a quotient of floating-point numbers
THRESHOLDS: dict[JudgementKind, float] = {
    "by seed": ACCURACY_POINTS,
    "in turns": TIME_SHARE,
    "exact": EXACT_SHARE,
    "read once": PROCESS_SHARE,
}


@dataclass(frozen=True)
class Verdict:
    """A verdict and its reason.

    Attributes:
        word: the verdict.
        why: the reason: the threshold for ``same``, or what is missing.
    """

    word: VerdictWord
    why: str = ""

    def __str__(self) -> str:
        """Return the word; for ``same``, with the threshold."""
        return f"{self.word} {self.why}" if self.word is VerdictWord.SAME else str(self.word)


def threshold(metric: str) -> float:
    """Return the largest irrelevant difference: a share, or for accuracies a difference.

    Raises:
        ValueError: the metric is not judged.
    """
    judged = METRICS[metric].judged
    if judged is None:
        raise ValueError(f"{metric} is not judged")
    return THRESHOLDS[judged.kind]


def within(metric: str) -> str:
    """Return a text with the difference up to which values count as the same."""
    if METRICS[metric].is_judged("by seed"):
        return f"within {100 * threshold(metric):g} points"
    return f"within {100 * threshold(metric):g} %"


def of_exact(metric: str, ratio: float) -> Verdict:
    """Judge a ratio that has no spread."""
    if abs(ratio - 1) <= threshold(metric) + ROUNDING:
        return Verdict(VerdictWord.SAME, within(metric))
    return Verdict(_better(metric, more=ratio > 1))


def of_time(metric: str, ratio: Ratio, p: float | None, comparisons: int = 1) -> Verdict:
    """Judge a ratio of times by its interval and its test.

    Args:
        metric: a time.
        ratio: the ratio with its interval.
        p: p value of the ratio, corrected for the number of comparisons.
        comparisons: the number of simultaneous comparisons.
    """
    if ratio.low is None or ratio.high is None:
        return Verdict(
            VerdictWord.INCONCLUSIVE,
            f"an interval needs at least {FEWEST_GENERATIONS} process generations, and there are "
            f"{ratio.generations}",
        )
    near = threshold(metric)
    if 1 - near <= ratio.low and ratio.high <= 1 + near:
        return Verdict(VerdictWord.SAME, within(metric))
    if not ratio.differs():
        return Verdict(VerdictWord.INCONCLUSIVE, "the interval contains 1")
    if p is not None and p <= 1 - CONFIDENCE:
        return Verdict(_better(metric, more=ratio.centre > 1))
    return Verdict(
        VerdictWord.INCONCLUSIVE,
        f"the interval excludes 1, but the test does not pass{with_others(comparisons)}"
        f"{'' if p is None else f' (p {units.share(p)})'}",
    )


def of_pairs(metric: str, difference: Difference, p: float | None, comparisons: int = 1) -> Verdict:
    """Judge the mean difference of pairs.

    Args:
        metric: an accuracy.
        difference: the mean difference with its interval.
        p: p value of the test, corrected for the number of comparisons.
        comparisons: the number of simultaneous comparisons.
    """
    near = threshold(metric)
    if difference.low is None or difference.high is None:
        pairs = "one pair has" if difference.pairs == 1 else "pairs with equal differences have"
        return Verdict(VerdictWord.INCONCLUSIVE, f"{pairs} no spread")
    if -near <= difference.low and difference.high <= near:
        return Verdict(VerdictWord.SAME, within(metric))
    if not can_be_significant(difference.pairs, comparisons):
        too_few = f"{difference.pairs} pairs cannot pass a test at {1 - CONFIDENCE:.2g}"
        return Verdict(VerdictWord.INCONCLUSIVE, f"{too_few}; {enough(comparisons)}")
    if p is not None and p <= 1 - CONFIDENCE and not difference.low <= 0 <= difference.high:
        return Verdict(_better(metric, more=difference.centre > 0))
    shown = "" if p is None else f", p {units.share(p)}"
    return Verdict(
        VerdictWord.INCONCLUSIVE, f"the interval contains 0 or the test does not pass{shown}"
    )


def enough(comparisons: int) -> str:
    """Return a text that says how many pairs can pass the test."""
    fewest = fewest_pairs(comparisons)
    if fewest is None:
        return f"with {comparisons:,} simultaneous comparisons no number of pairs can"
    return f"{fewest} can{with_others(comparisons)}"


def with_others(comparisons: int) -> str:
    """Return the number of simultaneous comparisons in words; empty for one."""
    return f", with {comparisons:,} simultaneous comparisons" if comparisons > 1 else ""


def fewest_pairs(comparisons: int = 1) -> int | None:
    """Return the smallest number of pairs that can pass the test; ``None`` if no number can."""
    possible = (pairs for pairs in range(2, MOST_FOR_T) if can_be_significant(pairs, comparisons))
    return next(possible, None)  # from 14 pairs on flips are drawn, so more pairs do not help


def _better(metric: str, *, more: bool) -> VerdictWord:
    higher_is_better = METRICS[metric].direction == "higher"
    return VerdictWord.BETTER if more == higher_is_better else VerdictWord.WORSE
