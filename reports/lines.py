"""A row's line, the same in every figure."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from reports.comparison import BASELINE, REFERENCE
from reports.names import in_figure
from reports.palette import colour_of, is_variant, mark_of

# Rows may lie exactly on each other (recomputing changes no result): the reference comes first and
# is wide enough to be seen behind another, and variants are rings around others' marks.
WIDTHS = {REFERENCE: 3.0, BASELINE: 2.0}
SIZES = {REFERENCE: 7.0, BASELINE: 9.0}
WIDTH, SIZE, RING = 1.2, 5.0, 10.0


def draw_line(
    axes: Axes, label: str, along: Sequence[float], up: Sequence[float], *, more: str = ""
) -> None:
    """Draw a row's readings and the line between them.

    Args:
        axes: where.
        label: the row's.
        along: places of the readings.
        up: the readings.
        more: stands behind the row's name in the legend.
    """
    colour, variant = colour_of(label), is_variant(label)
    axes.plot(
        along,
        up,
        color=colour,
        marker=mark_of(label),
        markersize=RING if variant else SIZES.get(label, SIZE),
        markerfacecolor="none" if variant else colour,
        linestyle="--" if variant else "-",
        linewidth=WIDTHS.get(label, WIDTH),
        label=in_figure(label) + more,
    )
