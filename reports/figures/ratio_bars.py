"""Bars of ratios to the reference, for each row of the comparison."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patheffects import withStroke

from bsrbench.harness.records.metric import FigurePart
from bsrbench.harness.records.ratio_interval import CONFIDENCE, Ratio
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.repeated_timings import has_rounds
from bsrbench.reports.figures.palette import COLOURS, EDGE_COLOUR
from bsrbench.reports.figures.row_looks import colour_of_row
from bsrbench.reports.wording.safe_text import in_figures

CUT = 3  # times the longest bar; intervals that end farther away would make all bars tiny
CLEAR = withStroke(linewidth=2.5, foreground="white")  # around numbers that a line may cross


def ratios(comparison: Comparison, parts: Mapping[str, FigurePart]) -> Canvas | None:
    """Draw each row's ratios, one bar per metric; return ``None`` if no row has all ratios."""
    metrics, names = list(parts), [part.axis for part in parts.values()]
    shown = [
        row
        for row in comparison.rows
        if all(comparison.ratio(row, metric) is not None for metric in metrics)
    ]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 0.6 + 0.28 * len(shown) * (1 + len(metrics) / 2)))
    axes = canvas.subplots()
    thick = 0.8 / len(metrics)
    for place, (metric, name) in enumerate(zip(metrics, names, strict=True)):
        lengths = [comparison.ratio(row, metric) or 0 for row in shown]
        heights = [index + (place - (len(metrics) - 1) / 2) * thick for index in range(len(shown))]
        # With one bar per row, each method has a colour. With several, each metric has a colour.
        colours = COLOURS[place] if len(metrics) > 1 else [colour_of_row(row) for row in shown]
        found = [comparison.time_ratio(row, metric) for row in shown] if has_rounds(metric) else []
        bars = axes.barh(
            heights,
            lengths,
            thick * 0.9,
            label=name,
            color=colours,
            xerr=_beyond(found, CUT * max(lengths)),
            error_kw={"ecolor": EDGE_COLOUR, "elinewidth": 1},
        )
        texts = [units.ratio(length) for length in lengths]
        axes.bar_label(bars, texts, padding=3, fontsize=8, path_effects=[CLEAR])
    axes.axvline(1, color=EDGE_COLOUR, linewidth=1)
    along = f"relative to {REFERENCE}" + ("" if len(names) > 1 else f": {names[0]}")
    if any(map(has_rounds, metrics)):
        along += f" (line: {100 * CONFIDENCE:g} % interval of the time)"
    name_bars(axes, [row.label for row in shown], along)
    if len(metrics) > 1:
        canvas.legend(loc="outside upper right", ncols=len(metrics), fontsize=9)
    return canvas


def _beyond(found: Sequence[Ratio | None], most: float) -> tuple[list[float], list[float]] | None:
    """Return how far each interval reaches below and above its ratio; 0 without an interval.

    An interval is cut at ``most``.
    """
    if not found:
        return None
    ends = [
        (ratio.centre - ratio.low, min(ratio.high, most) - ratio.centre)
        if ratio and ratio.low is not None and ratio.high is not None
        else (0.0, 0.0)
        for ratio in found
    ]
    return [below for below, _ in ends], [above for _, above in ends]


def name_bars(axes: Axes, labels: Sequence[str], along: str) -> None:
    """Label the bars with row names, first row on top, and label the axis below."""
    axes.set_yticks(range(len(labels)), in_figures(labels))
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel(along)
    axes.grid(visible=False, axis="y")
