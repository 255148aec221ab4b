"""Judge the goals of a suite by the rows of comparisons."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bsrbench.harness.errors import BadInput, unknown
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.spec.row_name import RowLabel
from bsrbench.harness.spec.suite_goal import Goal
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.metric_finding import JUDGED
from bsrbench.reports.compare.repeated_timings import has_rounds
from bsrbench.reports.compare.time_ratios import ratio_of_times


class Met(StrEnum):
    """Whether a goal is met, in the words of its table."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "not measured"


@dataclass(frozen=True)
class JudgedGoal:
    """A goal in one question, and what was measured.

    Attributes:
        goal: the goal.
        setting: the workload of the question in words; empty if no question has the goal.
        met: whether it is met.
        ratio: the measured ratio; ``None`` if there is none.
        interval: its interval; ``None`` for exact metrics and with fewer than three rounds.
        why: why there is no ratio.
    """

    goal: Goal
    setting: str
    met: Met
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    why: str = ""

    def words(self) -> str:
        """Return the goal as a sentence: ``bsr: step_seconds at most 0.3 of full``."""
        goal = self.goal
        return f"{goal.row}: {goal.metric} at most {goal.at_most:g} of {goal.to}"


def require_known(goals: Iterable[Goal]) -> None:
    """Check that a ratio of every goal's metric can be judged.

    Raises:
        BadInput: a metric is unknown, or its ratio has no meaning.
    """
    for goal in goals:
        if goal.metric not in METRICS:
            raise unknown("metric", goal.metric, METRICS)
        if goal.metric not in JUDGED:
            raise BadInput(
                f"the goal of {goal.row} compares {goal.metric}, which cannot be judged as a "
                f"ratio; expected one of {', '.join(sorted(JUDGED))}"
            )


def judge(goals: Iterable[Goal], comparisons: Sequence[Comparison]) -> list[JudgedGoal]:
    """Return every goal in every question that has it, in the order of the goals."""
    return [judged for goal in goals for judged in _everywhere(goal, comparisons)]


def _everywhere(goal: Goal, comparisons: Sequence[Comparison]) -> Iterator[JudgedGoal]:
    about = [each for each in comparisons if goal.is_about(each.reference)]
    if not about:
        yield JudgedGoal(goal, "", Met.UNKNOWN, why="no record of this question")
    for comparison in about:
        for machine in dict.fromkeys(row.machine() for row in comparison.rows):
            yield _judged(goal, comparison, machine)


def _judged(goal: Goal, comparison: Comparison, machine: str) -> JudgedGoal:
    """Judge a goal by the rows of one machine."""
    setting = comparison.title()
    if len({row.machine() for row in comparison.rows}) > 1:
        setting += f", machine {machine}"
    pair = []
    for label in (goal.row, goal.to):
        row = _find(label, comparison, machine)
        if row is None:
            return JudgedGoal(goal, setting, Met.UNKNOWN, why=f"no record of {label}")
        if failures := row.failures():
            return JudgedGoal(goal, setting, Met.UNKNOWN, why=f"{label}: {failures[0]}")
        if row.value(goal.metric) is None:
            why = f"{label}: {row.why_missing(goal.metric)}"
            return JudgedGoal(goal, setting, Met.UNKNOWN, why=why)
        pair.append(row)
    return _by_ratio(goal, setting, *pair)


def _by_ratio(goal: Goal, setting: str, row: ComparisonRow, base: ComparisonRow) -> JudgedGoal:
    """Compare the ratio of two rows with the bound; times need a common round group."""
    interval = None
    if has_rounds(goal.metric):
        times = ratio_of_times(goal.metric, row, base)
        if times is None:
            why = "not timed in turns with each other"
            return JudgedGoal(goal, setting, Met.UNKNOWN, why=why)
        ratio = times.centre
        if times.low is not None and times.high is not None:
            interval = times.low, times.high
    else:
        own, of = row.value(goal.metric) or 0.0, base.value(goal.metric)
        if not of:
            why = f"no ratio: the value of {goal.to} is 0"
            return JudgedGoal(goal, setting, Met.UNKNOWN, why=why)
        ratio = own / of
    met = Met.YES if ratio <= goal.at_most else Met.NO
    return JudgedGoal(goal, setting, met, ratio, interval)


def _find(label: str, comparison: Comparison, machine: str) -> ComparisonRow | None:
    name = RowLabel.parse(label).name(comparison.reference.axis_values())
    rows = [row for row in comparison.rows if row.name == name and row.machine() == machine]
    return rows[0] if len(rows) == 1 else None
