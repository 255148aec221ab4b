"""Figures of validation accuracy during training."""

from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean

from matplotlib.figure import Figure as Canvas

from bsrbench.harness.records.metric import FigurePart
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.record_numbers import numbers
from bsrbench.reports.compare.seed_pairing import behind
from bsrbench.reports.figures.row_lines import draw_line
from bsrbench.reports.figures.row_looks import colour_of_row
from bsrbench.reports.wording.safe_text import in_figures


def curves(comparison: Comparison, parts: Mapping[str, FigurePart]) -> Canvas | None:
    """Draw validation accuracy against steps or seconds; return ``None`` without curves.

    Accuracies and seconds at the same point of a curve are averaged over seeds.

    Args:
        comparison: the comparison whose rows are drawn.
        parts: the metric of the horizontal axis, and its name on the axis.
    """
    ((along, part),) = parts.items()
    shown = [row for row in comparison.rows if row.curves()]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    for row, label in zip(shown, in_figures([row.label for row in shown]), strict=True):
        readings = _readings(row, along)
        places = [fmean(x for x, _ in reading) for reading in readings]
        accuracies = [[accuracy for _, accuracy in reading] for reading in readings]
        name = label + behind(row, same_seeds=comparison.same_seeds)
        draw_line(axes, row, name, places, [fmean(each) for each in accuracies])
        ends = list(map(min, accuracies)), list(map(max, accuracies))
        axes.fill_between(places, *ends, color=colour_of_row(row), alpha=0.08)
    axes.set_xlim(left=0)
    axes.set_xlabel(part.axis)
    axes.set_ylabel("validation accuracy")
    canvas.legend(loc="outside right upper", fontsize=9)
    return canvas


def _readings(row: ComparisonRow, along: str) -> list[list[tuple[float, float]]]:
    """Return one list per reading: the position and accuracy of each seed."""
    read: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for record in row.records:
        pairs = zip(numbers(record, along), numbers(record, "curve_accuracies"), strict=False)
        for number, pair in enumerate(pairs):
            read[number].append(pair)
    return list(read.values())
