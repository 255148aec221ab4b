"""Accuracy against what it costs: a point a row, spreads, the Pareto front."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from reports.comparison import BASELINE, REFERENCE, Comparison
from reports.names import in_figure
from reports.palette import EDGE_COLOUR, colour_of, is_variant, mark_of
from reports.round_groups import TIMED_BY
from reports.row import Row
from reports.seeds import behind
from reports.times import in_one_group
from reports.units import Unit


def accuracy_against(comparison: Comparison, metric: str, unit: Unit, name: str) -> Canvas | None:
    """Draw test accuracy against a cost; nothing where no row has both.

    Where rows were tested with different seeds, the legend names them and there is no front.
    Times of several round groups are drawn as ratios to the reference, of the rows that have one.
    """
    tested = [row for row in comparison.rows if row.accuracy()]
    apart = metric in TIMED_BY and not in_one_group(tested)
    costs = {
        row.label: cost / (1 if apart else unit.scale)
        for row, cost in zip(tested, comparison.ranked(metric, tested), strict=True)
        if cost
    }
    shown = [row for row in tested if row.label in costs]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    for row in shown:
        spread = _interval(comparison, row) if apart else _quartiles(row, metric, unit)
        more = behind(row, same_seeds=comparison.same_seeds)
        _point(axes, row, costs[row.label], spread, more)
    front = [row for row in comparison.pareto_front(metric) if row in shown]
    if len(front) > 1:  # a point alone has no line
        axes.plot(
            [costs[row.label] for row in front],
            [row.value("accuracy_top1") or 0 for row in front],
            color=EDGE_COLOUR,
            linewidth=1,
            linestyle="--",
            zorder=1,
            label="Pareto front",
        )
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{name} relative to {REFERENCE}" if apart else f"{name} ({unit.name})")
    axes.set_ylabel("test accuracy")
    canvas.legend(loc="outside right upper", fontsize=9)
    return canvas


def _point(axes: Axes, row: Row, cost: float, spread: list[list[float]] | None, more: str) -> None:
    accuracy = row.accuracy()
    if accuracy is None:
        return
    axes.errorbar(
        cost,
        accuracy.centre,
        xerr=spread,
        yerr=[[accuracy.centre - accuracy.low], [accuracy.high - accuracy.centre]],
        fmt=mark_of(row.label),
        color=colour_of(row.label),
        markerfacecolor="none" if is_variant(row.label) else colour_of(row.label),
        markersize=_size(row.label),
        markeredgecolor=colour_of(row.label) if is_variant(row.label) else "black",
        markeredgewidth=1.5 if is_variant(row.label) else 0.5,
        elinewidth=1,
        capsize=3,
        label=in_figure(row.label) + more,
    )


def _size(label: str) -> float:
    """Return how large a row's mark is; variants are rings, for they may lie on another row."""
    if is_variant(label):
        return 11.0
    return 13.0 if label == BASELINE else 7.0


def _quartiles(row: Row, metric: str, unit: Unit) -> list[list[float]] | None:
    spread = row.step_seconds() if metric == "step_seconds" else None
    if spread is None:
        return None
    ends = spread.centre - spread.low, spread.high - spread.centre
    return [[end / unit.scale] for end in ends]


def _interval(comparison: Comparison, row: Row) -> list[list[float]] | None:
    ratio = comparison.time_ratio(row)
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return [[ratio.centre - ratio.low], [ratio.high - ratio.centre]]
