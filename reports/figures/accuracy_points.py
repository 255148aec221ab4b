"""Accuracy against a cost: one point per row, spreads, the Pareto front."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bsrbench.harness.records.metric import FigurePart
from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.repeated_timings import TIMED_BY, has_rounds
from bsrbench.reports.compare.seed_pairing import behind
from bsrbench.reports.compare.time_ratios import in_one_group
from bsrbench.reports.figures.palette import EDGE_COLOUR
from bsrbench.reports.figures.row_looks import colour_of_row, mark_of_row
from bsrbench.reports.units import DisplayUnit
from bsrbench.reports.wording.safe_text import in_figures


def accuracy_against(comparison: Comparison, metric: str, part: FigurePart) -> Canvas | None:
    """Draw test accuracy against a cost; return ``None`` if no row has both.

    If rows were tested with different seeds, the legend names the seeds and there is no front. If
    there are several round groups, times are drawn as ratios to the reference.
    """
    unit = units.of_metric(metric)
    tested = [row for row in comparison.rows if row.accuracy()]
    apart = metric in TIMED_BY and not in_one_group(tested)
    scale = 1 if apart else unit.scale
    shown = [
        (row, cost / scale)
        for row, cost in zip(tested, comparison.ranked(metric, tested), strict=True)
        if cost
    ]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    labels = in_figures([row.label for row, _ in shown])
    for label, (row, cost) in zip(labels, shown, strict=True):
        spread = _interval(comparison, row, metric) if apart else _quartiles(row, metric, unit)
        name = label + behind(row, same_seeds=comparison.same_seeds)
        _point(axes, row, name, cost, spread)
    in_front = {id(row) for row in comparison.pareto_front(metric)}
    front = [(c, row.value("accuracy_top1") or 0) for row, c in shown if id(row) in in_front]
    if len(front) > 1:  # one point makes no line
        axes.plot(
            *zip(*sorted(front), strict=True),
            color=EDGE_COLOUR,
            linewidth=1,
            linestyle="--",
            zorder=1,
            label="Pareto front",
        )
    axes.set_xlim(left=0)
    axes.set_xlabel(
        f"{part.axis} relative to {REFERENCE}" if apart else f"{part.axis} ({unit.name})"
    )
    axes.set_ylabel("test accuracy")
    canvas.legend(loc="outside right upper", fontsize=9)
    return canvas


def _point(
    axes: Axes, row: ComparisonRow, label: str, cost: float, spread: list[list[float]] | None
) -> None:
    accuracy = row.accuracy()
    if accuracy is None:
        return
    plain, colour = row.printed.is_plain(), colour_of_row(row)
    axes.errorbar(
        cost,
        accuracy.centre,
        xerr=spread,
        yerr=[[accuracy.centre - accuracy.low], [accuracy.high - accuracy.centre]],
        fmt=mark_of_row(row),
        color=colour,
        markerfacecolor=colour if plain else "none",
        markersize=_size(row),
        markeredgecolor="black" if plain else colour,
        markeredgewidth=0.5 if plain else 1.5,
        elinewidth=1,
        capsize=3,
        label=label,
    )


def _size(row: ComparisonRow) -> float:
    """Return the size of a row's mark; variants are large rings, so that others stay visible."""
    if not row.printed.is_plain():
        return 11.0
    return 13.0 if row.spec.method == BASELINE else 7.0


def _quartiles(row: ComparisonRow, metric: str, unit: DisplayUnit) -> list[list[float]] | None:
    spread = row.spread(metric) if METRICS[metric].samples else None
    if spread is None:
        return None
    ends = spread.centre - spread.low, spread.high - spread.centre
    return [[end / unit.scale] for end in ends]


def _interval(comparison: Comparison, row: ComparisonRow, metric: str) -> list[list[float]] | None:
    """Return the interval of a ratio of times; ``None`` for a rate, which has none."""
    ratio = comparison.time_ratio(row, metric) if has_rounds(metric) else None
    if ratio is None or ratio.low is None or ratio.high is None:
        return None
    return [[ratio.centre - ratio.low], [ratio.high - ratio.centre]]
