"""The comparison as pictures, PNG and SVG."""

import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from reports import units
from reports.comparison import BASELINE, REFERENCE, Comparison, Row
from reports.memory_figures import parts_at_peak, timeline
from reports.palette import BASELINE_COLOUR, COLOURS, EDGE_COLOUR, OTHER_COLOUR

STYLE = Path(__file__).with_name("plain.mplstyle")
MARKERS = "osD^vPX*<>hp"


@dataclass(frozen=True)
class Figure:
    """A picture that was written.

    Attributes:
        name: of its files, without the ending.
        caption: what it shows and from what.
        svg: its source.
    """

    name: str
    caption: str
    svg: str


def write_all(comparisons: list[Comparison], folder: Path) -> list[Figure]:
    """Draw every figure the records allow, and return them in the order of the report.

    Where there are several comparisons there is no figure: each would need a set of its own.
    """
    if len(comparisons) > 1:
        return []
    (comparison,) = comparisons
    drawings: list[tuple[str, str, Callable[[Comparison], Canvas | None]]] = [
        (
            "accuracy-memory",
            "Test accuracy and counted peak memory; bars: range over seeds; line: Pareto front.",
            _accuracy_against_memory,
        ),
        (
            "memory",
            f"Counted peak memory of a training step relative to {REFERENCE}.",
            lambda c: _bars(c, ("peak_counted_bytes",), ("counted peak memory",)),
        ),
        ("memory-parts", "What the counted peak of a step consists of.", parts_at_peak),
        (
            "memory-timeline",
            "Counted memory through one training step, operator by operator.",
            timeline,
        ),
        (
            "time-flops",
            f"Time (ratio within rounds) and FLOPs of a step relative to {REFERENCE}.",
            lambda c: _bars(c, ("step_seconds", "step_flop"), ("time", "FLOPs")),
        ),
    ]
    made = []
    with mpl.rc_context(fname=STYLE):
        for name, caption, draw in drawings:
            canvas = draw(comparison)
            if canvas is not None:
                made.append(_finish(canvas, folder, name, caption, _setting(comparison)))
    return made


def _finish(canvas: Canvas, folder: Path, name: str, caption: str, setting: str) -> Figure:
    """Write the setting under a picture and save it."""
    footnote = "\n".join(textwrap.wrap(setting, 100))
    canvas.supxlabel(footnote, x=0.01, ha="left", fontsize=7)
    return _save(canvas, folder, name, f"{caption} {setting}")


def _setting(comparison: Comparison) -> str:
    workload = comparison.rows[0].spec.workload
    machines = ", ".join(
        f"{e.get('machine', {}).get('processor')}, {e.get('machine', {}).get('cores')} cores"
        for e in comparison.machines()
    )
    seeds = f", {comparison.seeds()} seeds" if comparison.seeds() else ""
    size = f" at {workload.image_size} px" if workload.image_size else ""
    return (
        f"{workload.model}{size}, batch {workload.batch}, {workload.precision}{seeds}; "
        f"{workload.device}: {machines}."
    )


def _save(canvas: Canvas, folder: Path, name: str, caption: str) -> Figure:
    # No date in the files: the same records give the same bytes.
    with warnings.catch_warnings():
        # A name in a script the font lacks is drawn as boxes here and stands whole in the tables.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        canvas.savefig(folder / f"{name}.png", metadata={"Software": None})
        canvas.savefig(folder / f"{name}.svg", metadata={"Date": None, "Description": caption})
    return Figure(name, caption, (folder / f"{name}.svg").read_text(encoding="utf-8"))


def _accuracy_against_memory(comparison: Comparison) -> Canvas | None:
    metric = "peak_counted_bytes"
    shown = [row for row in comparison.rows if row.accuracy() and row.value(metric)]
    if not shown:
        return None
    canvas = Canvas(figsize=(7.5, 4.5))
    axes = canvas.subplots()
    for index, row in enumerate(shown):
        _point(axes, row, metric, index)
    front = [row for row in comparison.pareto_front(metric) if row in shown]
    axes.plot(
        [(row.value(metric) or 0) / units.MEBI for row in front],
        [row.value("accuracy_top1") or 0 for row in front],
        color=EDGE_COLOUR,
        linewidth=1,
        linestyle="--",
        zorder=1,
        label="Pareto front",
    )
    axes.set_xlim(left=0)
    axes.set_xlabel("counted peak memory of a training step (MiB)")
    axes.set_ylabel("test accuracy")
    canvas.legend(loc="outside right upper", fontsize=9)
    return canvas


def _point(axes: Axes, row: Row, metric: str, index: int) -> None:
    accuracy, cost = row.accuracy(), row.value(metric)
    if accuracy is None or cost is None:
        return
    spread = [[accuracy.centre - accuracy.low], [accuracy.high - accuracy.centre]]
    axes.errorbar(
        cost / units.MEBI,
        accuracy.centre,
        yerr=spread,
        fmt=MARKERS[index % len(MARKERS)],
        color=BASELINE_COLOUR if row.label == BASELINE else COLOURS[index % len(COLOURS)],
        markersize=9 if row.label == BASELINE else 7,
        markeredgecolor="black",
        markeredgewidth=1.5 if row.label == BASELINE else 0.5,
        capsize=3,
        label=row.label,
    )


def _bars(
    comparison: Comparison, metrics: tuple[str, ...], names: tuple[str, ...]
) -> Canvas | None:
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
        colours = _colours(shown, place, len(metrics))
        bars = axes.barh(heights, lengths, thick * 0.9, label=name, color=colours)
        axes.bar_label(bars, [units.ratio(length) for length in lengths], padding=3, fontsize=8)
    axes.axvline(1, color=EDGE_COLOUR, linewidth=1)
    axes.set_yticks(range(len(shown)), [row.label for row in shown])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel(f"relative to {REFERENCE}" + ("" if len(names) > 1 else f": {names[0]}"))
    axes.grid(visible=False, axis="y")
    if len(metrics) > 1:
        canvas.legend(loc="outside upper right", ncols=len(metrics), fontsize=9)
    return canvas


def _colours(rows: list[Row], place: int, metrics: int) -> list[str] | str:
    """Mark the baseline where there is one bar a row; else one colour a metric."""
    if metrics > 1:
        return COLOURS[place]
    return [BASELINE_COLOUR if row.label == BASELINE else OTHER_COLOUR for row in rows]
