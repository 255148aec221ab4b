"""The figure of a search's front: accuracy against memory and against time."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bsrbench.harness.spec.search_result import SearchResult
from bsrbench.reports import units
from bsrbench.reports.compare.search_rows import MeasuredRow
from bsrbench.reports.figures.all_figures import STYLE, save
from bsrbench.reports.figures.palette import COLOUR_OF, EDGE_COLOUR

FIGURE = "front"
PUBLISHED_COLOUR, FOUND_COLOUR, TRIED_COLOUR = COLOUR_OF["bsr"], "#0072b2", "#999999"
CAPTION = (
    "Validation accuracy against counted peak memory and against the time of a step relative to "
    "the published setting; bars: range over seeds, and the interval of the time; grey: settings "
    "after a short training, at their predicted memory; line: the front."
)


def write(result: SearchResult, rows: list[MeasuredRow], folder: Path) -> bool:
    """Draw the front as PNG, SVG and PDF; return whether there were data to draw."""
    complete = [row for row in rows if row.is_complete()]
    if complete:
        with mpl.rc_context(fname=STYLE):
            save(_draw(result, complete, rows[0]), folder, FIGURE, CAPTION)
    return bool(complete)


def _draw(result: SearchResult, complete: list[MeasuredRow], published: MeasuredRow) -> Canvas:
    canvas = Canvas(figsize=(9, 4.4))
    memory, time = canvas.subplots(1, 2, sharey=True)
    _short_trainings(memory, result)
    front = [row for row in complete if row.on_front]
    for axes, place, scale in ((memory, 0, units.MEBI), (time, 1, 1.0)):
        for row in complete:
            _point(axes, row, row.point()[place] / scale, row is published, timed=axes is time)
        _line(axes, [(row.point()[place] / scale, -row.point()[2]) for row in front])
        axes.set_xlim(left=0)
    memory.set_xlabel("counted peak memory (MiB)")
    memory.set_ylabel("validation accuracy")
    time.set_xlabel("step time relative to the published setting")
    handles, names = memory.get_legend_handles_labels()
    once = dict(zip(names, handles, strict=True))
    canvas.legend(once.values(), once.keys(), loc="outside upper center", ncols=4, fontsize=9)
    return canvas


def _short_trainings(axes: Axes, result: SearchResult) -> None:
    short = [setting for setting in result.tried if setting.short_accuracy is not None]
    axes.scatter(
        [setting.peak_bytes / units.MEBI for setting in short],
        [setting.short_accuracy or 0 for setting in short],
        color=TRIED_COLOUR,
        s=16,
        alpha=0.6,
        label="short training",
    )


def _point(axes: Axes, row: MeasuredRow, x: float, is_published: bool, *, timed: bool) -> None:
    accuracy, ratio = row.accuracy(), row.ratio if timed else None
    if accuracy is None:
        return
    spread = None
    if ratio is not None and ratio.low is not None and ratio.high is not None:
        spread = [[ratio.centre - ratio.low], [ratio.high - ratio.centre]]
    axes.errorbar(
        x,
        accuracy.centre,
        xerr=spread,
        yerr=[[accuracy.centre - accuracy.low], [accuracy.high - accuracy.centre]],
        fmt="*" if is_published else "o",
        color=PUBLISHED_COLOUR if is_published else FOUND_COLOUR,
        markersize=13 if is_published else 7,
        markeredgecolor="black",
        markeredgewidth=0.5,
        elinewidth=1,
        capsize=3,
        label="published setting" if is_published else "found",
    )


def _line(axes: Axes, points: list[tuple[float, float]]) -> None:
    """Draw a line through the points that are more accurate than every cheaper point."""
    best, line = 0.0, []
    for cost, accuracy in sorted(points):
        if accuracy > best:
            best = accuracy
            line.append((cost, accuracy))
    costs, accuracies = [cost for cost, _ in line], [accuracy for _, accuracy in line]
    axes.plot(costs, accuracies, "--", color=EDGE_COLOUR, linewidth=1, zorder=1, label="front")
