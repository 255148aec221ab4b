"""Accuracy against what it costs: a point a row, spreads, the Pareto front."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from reports.comparison import BASELINE, Comparison
from reports.names import in_figures
from reports.palette import EDGE_COLOUR, colour_of, mark_of
from reports.row import Row
from reports.units import Unit


def accuracy_against(comparison: Comparison, metric: str, unit: Unit, name: str) -> Canvas | None:
    """Draw test accuracy against a cost; nothing where no row has both.

    Times are drawn only of rows that were timed in turns with each other.
    """
    shown = [row for row in comparison.rows if row.accuracy() and row.value(metric)]
    if not shown or (metric == "step_seconds" and not _in_one_group(shown)):
        return None
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    for row, label in zip(shown, in_figures([row.label for row in shown]), strict=True):
        _point(axes, row, label, metric, unit)
    front = [row for row in comparison.pareto_front(metric) if row in shown]
    if len(front) > 1:  # a point alone has no line
        axes.plot(
            [(row.value(metric) or 0) / unit.scale for row in front],
            [row.value("accuracy_top1") or 0 for row in front],
            color=EDGE_COLOUR,
            linewidth=1,
            linestyle="--",
            zorder=1,
            label="Pareto front",
        )
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{name} ({unit.name})")
    axes.set_ylabel("test accuracy")
    canvas.legend(loc="outside right upper", fontsize=9)
    return canvas


def _in_one_group(rows: list[Row]) -> bool:
    groups = {row.round_group() for row in rows}
    return len(groups) == 1 and None not in groups


def _point(axes: Axes, row: Row, label: str, metric: str, unit: Unit) -> None:
    accuracy, cost = row.accuracy(), row.value(metric)
    if accuracy is None or cost is None:
        return
    plain, colour = row.printed.is_plain(), colour_of(row.spec.method)
    axes.errorbar(
        cost / unit.scale,
        accuracy.centre,
        xerr=_cost_spread(row, metric, unit),
        yerr=[[accuracy.centre - accuracy.low], [accuracy.high - accuracy.centre]],
        fmt=mark_of(row.spec.method),
        color=colour,
        markerfacecolor=colour if plain else "none",
        markersize=_size(row),
        markeredgecolor="black" if plain else colour,
        markeredgewidth=0.5 if plain else 1.5,
        elinewidth=1,
        capsize=3,
        label=label,
    )


def _size(row: Row) -> float:
    """Return how large a row's mark is; variants are rings, for they may lie on another row."""
    if not row.printed.is_plain():
        return 11.0
    return 13.0 if row.spec.method == BASELINE else 7.0


def _cost_spread(row: Row, metric: str, unit: Unit) -> list[list[float]] | None:
    spread = row.step_seconds() if metric == "step_seconds" else None
    if spread is None:
        return None
    ends = spread.centre - spread.low, spread.high - spread.centre
    return [[end / unit.scale] for end in ends]
