"""Figures of memory: by category at the peak, per block, per meter, and during a step."""

import math
import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.sidecar import PackedTimeline, Sidecar
from bsrbench.reports import units
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.optimizer_rows import label_with_optimizer, with_references
from bsrbench.reports.figures.figure_metrics import metrics_of
from bsrbench.reports.figures.palette import CATEGORY_COLOURS, COLOURS, EDGE_COLOUR
from bsrbench.reports.figures.ratio_bars import name_bars
from bsrbench.reports.figures.row_lines import draw_line
from bsrbench.reports.figures.row_looks import colour_of_row
from bsrbench.reports.wording.safe_text import in_figure, in_figures

METERS = metrics_of("memory-words")
PARTS = {metric.part: name for name, metric in METRICS.items() if metric.part}
OF_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)(?:\.|$)")
PEAK = "peak"
PHASE_MARKS = {"backward": "v", "optimizer": "s", PEAK: "D"}
MOST_POINTS = 2000  # most points of one line
MOST_TIMELINES = 4  # more filled areas hide each other


def parts_at_peak(comparison: Comparison) -> Canvas | None:
    """Draw each row's counted peak as one bar divided into categories."""
    shown = [row for row in comparison.rows if _has_parts(row)]
    return _parts_of(shown, [row.label for row in shown]) if shown else None


def parts_by_optimizer(comparison: Comparison) -> Canvas | None:
    """Draw the same for the rows that differ in the optimizer, if there are other rows too."""
    shown = [row for row, _ in with_references(comparison) if _has_parts(row)]
    if not 0 < len(shown) < len(comparison.rows):
        return None
    return _parts_of(shown, list(map(label_with_optimizer, shown)))


def _parts_of(shown: Sequence[ComparisonRow], labels: Sequence[str]) -> Canvas:
    canvas = Canvas(figsize=(7.5, 1.2 + 0.36 * len(shown)))
    axes = canvas.subplots()
    left = [0.0] * len(shown)
    for category, colour in CATEGORY_COLOURS.items():
        sizes = [(row.value(PARTS[category]) or 0) / units.MEBI for row in shown]
        if max(sizes) > 0:
            name = category.replace("_", " ")
            axes.barh(range(len(shown)), sizes, 0.7, left=left, color=colour, label=name)
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    for place, total in enumerate(left):
        axes.annotate(
            f"{total:,.0f}", (total, place), (4, 0), textcoords="offset points", va="center", size=8
        )
    along = "counted bytes alive at the peak of a training step (MiB)"
    name_bars(axes, labels, along)
    canvas.legend(loc="outside upper center", ncols=4, fontsize=8)
    return canvas


def _has_parts(row: ComparisonRow) -> bool:
    return any(row.value(metric) is not None for metric in PARTS.values())


def words_of_memory(comparison: Comparison) -> Canvas | None:
    """Draw the peak by the paper's convention next to the counted and the allocated peak."""
    metrics = list(METERS)
    shown = [
        row for row in comparison.rows if all(row.value(metric) is not None for metric in metrics)
    ]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 1.2 + 0.5 * len(shown)))
    axes = canvas.subplots()
    step = 0.81 / len(METERS)  # leaves a gap between the bars of two rows
    for place, (metric, part) in enumerate(METERS.items()):
        middle = place - (len(METERS) - 1) / 2
        heights = [index + middle * step for index in range(len(shown))]
        sizes = [(row.value(metric) or 0) / units.MEBI for row in shown]
        bars = axes.barh(heights, sizes, step - 0.02, color=COLOURS[place], label=part.axis)
        axes.bar_label(bars, [f"{size:,.0f}" for size in sizes], padding=3, fontsize=7)
    name_bars(axes, [row.label for row in shown], "peak of a training step (MiB)")
    canvas.legend(loc="outside upper center", ncols=len(METERS), fontsize=8)
    return canvas


def activations_by_block(comparison: Comparison) -> Canvas | None:
    """Draw the bytes that each block saves for the backward pass, one line per row."""
    row_sizes = [
        (row, sizes) for row in comparison.rows if (sizes := block_bytes(comparison.detail(row)))
    ]
    if not row_sizes:
        return None
    canvas = Canvas(figsize=(7.5, 4.2))
    axes = canvas.subplots()
    last = max(max(sizes) for _, sizes in row_sizes)
    labels = in_figures([row.label for row, _ in row_sizes])
    for label, (row, sizes) in zip(labels, row_sizes, strict=True):
        kept = [sizes.get(block, 0) / units.MEBI for block in range(last + 1)]
        draw_line(axes, row, label, range(last + 1), kept)
    axes.set_xticks(range(last + 1))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("block")
    axes.set_ylabel("kept for the backward pass (MiB)")
    canvas.legend(loc="outside right upper", fontsize=8)
    return canvas


def block_bytes(detail: Sidecar) -> dict[int, int]:
    """Return the bytes that each block keeps for the backward pass; empty if not recorded.

    Args:
        detail: a record's sidecar; its ``counted.held_by_module`` has bytes by module.
    """
    sizes: dict[int, int] = {}
    for module, size in (detail.counted.held_by_module if detail.counted else {}).items():
        place = OF_BLOCK.search(module)
        if place:
            sizes[int(place[1])] = sizes.get(int(place[1]), 0) + size
    return sizes


def timeline(comparison: Comparison) -> Canvas | None:
    """Draw the bytes alive after each operator of a step, for the reference and the baseline.

    If there are at most ``MOST_TIMELINES`` rows, all rows are drawn.
    """
    few = len(comparison.rows) <= MOST_TIMELINES
    shown = [
        (row, packed)
        for row in comparison.rows
        if (few or comparison.leads(row)) and (packed := _timeline_of(comparison, row))
    ]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 4.2))
    axes = canvas.subplots()
    labels = in_figures([row.label for row, _ in shown])
    for label, (row, packed) in zip(labels, shown, strict=True):
        _draw_timeline(axes, colour_of_row(row), label, packed)
    for phase, mark in PHASE_MARKS.items():
        name = "peak" if phase == PEAK else f"{phase} begins"
        axes.plot([], [], mark, color="white", markeredgecolor=EDGE_COLOUR, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.set_xlabel("operators of one training step, in the order they ran")
    axes.set_ylabel("counted bytes alive (MiB)")
    canvas.legend(loc="outside upper left", ncols=2, fontsize=8)
    return canvas


def _timeline_of(comparison: Comparison, row: ComparisonRow) -> PackedTimeline | None:
    counted = comparison.detail(row).counted
    timeline = counted.timeline if counted else None
    return timeline if timeline and timeline.index else None


def _draw_timeline(axes: Axes, colour: str, label: str, packed: PackedTimeline) -> None:
    x, sizes = packed.index, [size / units.MEBI for size in packed.live_bytes]
    top = max(range(len(sizes)), key=sizes.__getitem__)
    module = packed.modules[packed.module[top]] or "no module"
    legend = f"{label}: peak {sizes[top]:,.0f} MiB in {in_figure(module)}"
    places = drawn_places(sizes)
    along, up = [x[place] for place in places], [sizes[place] for place in places]
    axes.plot(along, up, color=colour, drawstyle="steps-post", linewidth=1, label=legend)
    axes.fill_between(along, up, step="post", color=colour, alpha=0.12, linewidth=0)
    begins = {phase: packed.phase.index(at) for at, phase in enumerate(packed.phases)}
    for phase, mark in PHASE_MARKS.items():
        place = top if phase == PEAK else begins.get(phase)
        if place is not None:
            axes.plot(x[place], sizes[place], mark, color="white", markeredgecolor=colour)


def drawn_places(sizes: Sequence[float]) -> Sequence[int]:
    """Return the indices of the points to draw: all, or as many as a figure can show.

    Each interval keeps its first, smallest, largest and last point, so no peak is lost.
    """
    if len(sizes) <= MOST_POINTS:
        return range(len(sizes))
    size = math.ceil(4 * len(sizes) / MOST_POINTS)
    kept: set[int] = set()
    for start in range(0, len(sizes), size):
        stretch = range(start, min(start + size, len(sizes)))
        ends = min(stretch, key=sizes.__getitem__), max(stretch, key=sizes.__getitem__)
        kept |= {stretch[0], *ends, stretch[-1]}
    return sorted(kept)
