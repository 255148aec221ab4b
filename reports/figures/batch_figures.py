"""Memory and time against batch size, over comparisons that differ in nothing else."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence

from matplotlib.figure import Figure as Canvas

from bsrbench.reports import units
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.excerpt import LINES, excerpt
from bsrbench.reports.compare.repeated_timings import TIMED_BY
from bsrbench.reports.compare.time_ratios import in_one_group
from bsrbench.reports.figures.figure_metrics import metrics_of
from bsrbench.reports.figures.row_lines import draw_line
from bsrbench.reports.wording.safe_text import in_figures


def all_of(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, str, Canvas]]:
    """Yield name, caption and figure of each metric, for each set of comparisons."""
    sets = [group for group in _alike(comparisons) if len(group) > 1]
    for number, group in enumerate(sets, start=1):
        prefix = f"{number}-" if len(sets) > 1 else ""
        workload = group[0].reference
        for metric, part in metrics_of("batch").items():
            canvas = _draw(group, metric, part.axis)
            if canvas is not None:
                caption = f"{part.axis.capitalize()} against batch size, {workload.model}."
                yield f"{prefix}batch-{part.file}", caption, canvas


def _alike(comparisons: Sequence[Comparison]) -> list[list[Comparison]]:
    """Return groups of comparisons that differ only in batch size, smallest batch first."""
    groups: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        groups[comparison.reference.model_copy(update={"batch": 1}).question()].append(comparison)
    return [sorted(each, key=lambda c: c.reference.batch) for each in groups.values()]


def _draw(comparisons: list[Comparison], metric: str, name: str) -> Canvas | None:
    unit = units.of_metric(metric)
    first = _first_rows(comparisons)
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    # Times of rows that were not timed in turns cannot be compared; their ratios can.
    apart = metric in TIMED_BY and not all(in_one_group(c.rows) for c in comparisons)
    scale = 1 if apart else unit.scale
    drawn = False
    labels = in_figures([row.label for row in first.values()])
    lines = _lines(comparisons, first, metric, as_ratio=apart)
    for row, label, line in zip(first.values(), labels, lines, strict=True):
        points = [(batch, value / scale) for batch, value in line if value is not None]
        if len({batch for batch, _ in points}) > 1:
            drawn = True
            draw_line(axes, row, label, *zip(*points, strict=True))
    if not drawn:
        return None
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch")
    axes.set_ylabel(f"{name} relative to {REFERENCE}" if apart else f"{name} ({unit.name})")
    canvas.legend(loc="outside right upper", fontsize=9)
    return canvas


def _first_rows(comparisons: list[Comparison]) -> dict[Hashable, ComparisonRow]:
    """Return the first row of each line; a figure has at most ``LINES`` lines."""
    first: dict[Hashable, ComparisonRow] = {}
    for comparison in comparisons:
        for row in excerpt(comparison, LINES).rows:
            first.setdefault(_alike_of(row), row)
    return {key: first[key] for key in [*first][:LINES]}


def _lines(
    comparisons: list[Comparison],
    keys: Iterable[Hashable],
    metric: str,
    *,
    as_ratio: bool,
) -> list[list[tuple[int, float | None]]]:
    """Return batch sizes and values of each line."""
    lines: dict[Hashable, list[tuple[int, float | None]]] = {key: [] for key in keys}
    for comparison in comparisons:
        for row in comparison.rows:
            if (line := lines.get(_alike_of(row))) is not None:
                value = comparison.ratio(row, metric) if as_ratio else _measured(row, metric)
                line.append((comparison.reference.batch, value))
    return list(lines.values())


def _alike_of(row: ComparisonRow) -> Hashable:
    """Return the key of a row's line; rows of one line differ only in batch size."""
    return (row.name, *row.printed.apart.items())


def _measured(row: ComparisonRow, metric: str) -> float | None:
    """Return the value of a metric; a prediction only if the row has no measured value."""
    return None if row.is_superseded(metric) else row.value(metric)
