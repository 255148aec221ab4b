"""Memory against time and FLOPs, for rows whose trainings are the same by construction."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bsrbench.harness.records.ratio_interval import CONFIDENCE, Ratio
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.shared_training import trains_as
from bsrbench.reports.figures.palette import COLOURS, EDGE_COLOUR
from bsrbench.reports.figures.ratio_bars import CLEAR
from bsrbench.reports.wording.safe_text import in_figures

FEWEST = 3  # points; two make no front
TIME_COLOUR, WORK_COLOUR = COLOURS[:2]


@dataclass(frozen=True)
class _Point:
    """The costs of a row relative to the reference; FLOPs are ``None`` where not counted."""

    row: ComparisonRow
    memory: float
    time: Ratio
    work: float | None


def memory_and_time(comparison: Comparison) -> Canvas | None:
    """Draw time and FLOPs of a step against counted peak memory, relative to the reference.

    Rows are drawn whose trainings are the same, so that they differ only in costs. Return ``None``
    if there are fewer than three of them with times.
    """
    points = _points(comparison)
    if len(points) < FEWEST:
        return None
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    _draw_times(axes, points)
    _draw_work(axes, points)
    for at_one in (axes.axhline, axes.axvline):
        at_one(1, color=EDGE_COLOUR, linewidth=0.8, zorder=0)
    axes.margins(x=0.14, y=0.18)
    axes.set_xlabel(f"counted peak memory relative to {REFERENCE}")
    axes.set_ylabel(f"cost of a training step relative to {REFERENCE}")
    canvas.legend(loc="outside upper right", ncols=3, fontsize=9)
    return canvas


def _points(comparison: Comparison) -> list[_Point]:
    """Return the rows that share a training, with the row that is trained, by memory."""
    named = {label for row in comparison.rows if (label := trains_as(row))}
    found = []
    for row in comparison.rows:
        memory = comparison.ratio(row, "peak_counted_bytes")
        time = comparison.time_ratio(row)
        if (trains_as(row) or row.label in named) and memory is not None and time is not None:
            found.append(_Point(row, memory, time, comparison.ratio(row, "step_flop")))
    return sorted(found, key=lambda point: point.memory)


def _draw_times(axes: Axes, points: Sequence[_Point]) -> None:
    reaches = [_reach(point.time) for point in points]
    axes.errorbar(
        [point.memory for point in points],
        [point.time.centre for point in points],
        yerr=list(zip(*reaches, strict=True)),
        fmt="o",
        color=TIME_COLOUR,
        capsize=3,
        elinewidth=1,
        label=f"time, {100 * CONFIDENCE:g} % interval",
    )
    front = _front(points)
    if len(front) > 1:
        axes.plot(
            [point.memory for point in front],
            [point.time.centre for point in front],
            color=TIME_COLOUR,
            linewidth=1,
            linestyle="--",
            zorder=1,
            label="Pareto front",
        )
    for label, point in zip(in_figures([p.row.label for p in points]), points, strict=True):
        axes.annotate(
            label,
            (point.memory, max(point.time.centre, point.time.high or 0)),
            (0, 5),
            textcoords="offset points",
            ha="center",
            size=8,
            path_effects=[CLEAR],
        )


def _draw_work(axes: Axes, points: Sequence[_Point]) -> None:
    counted = [(point.memory, point.work) for point in points if point.work is not None]
    if counted:
        axes.plot(*zip(*counted, strict=True), "_", color=WORK_COLOUR, ms=14, mew=2, label="FLOPs")


def _reach(time: Ratio) -> tuple[float, float]:
    """Return how far an interval reaches below and above its ratio; 0 without an interval."""
    if time.low is None or time.high is None:
        return 0.0, 0.0
    return time.centre - time.low, time.high - time.centre


def _front(points: Sequence[_Point]) -> list[_Point]:
    """Return the points, by memory, than which no other needs less memory and no more time."""
    front: list[_Point] = []
    for point in points:
        if not front or point.time.centre < front[-1].time.centre:
            front.append(point)
    return front
