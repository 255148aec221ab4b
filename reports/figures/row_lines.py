"""The line of a row, with the same appearance in every figure."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.figures.row_looks import colour_of_row, mark_of_row

# Lines may coincide, because recomputation changes no result. So the reference is drawn first with
# a wide line that stays visible, and the marks of variants are large rings around other marks.
WIDTHS = {REFERENCE: 3.0, BASELINE: 2.0}
SIZES = {REFERENCE: 7.0, BASELINE: 9.0}
WIDTH, SIZE, RING = 1.2, 5.0, 10.0


def draw_line(
    axes: Axes, row: ComparisonRow, name: str, along: Sequence[float], up: Sequence[float]
) -> None:
    """Draw a row's readings and their line; marks of rows with options or axes are hollow."""
    method, plain = row.spec.method, row.printed.is_plain()
    colour = colour_of_row(row)
    axes.plot(
        along,
        up,
        color=colour,
        marker=mark_of_row(row),
        markersize=SIZES.get(method, SIZE) if plain else RING,
        markerfacecolor=colour if plain else "none",
        linestyle="-" if plain else "--",
        linewidth=WIDTHS.get(method, WIDTH) if plain else WIDTH,
        label=name,
    )
