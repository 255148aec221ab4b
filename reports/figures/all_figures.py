"""Draw every figure for which the records have data, as PNG, SVG and PDF."""

import io
import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.transforms import Bbox

from bsrbench.harness.files import write_whole
from bsrbench.harness.records.metric import FigurePart
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import CONFIDENCE
from bsrbench.harness.records.trial_environment import Environment
from bsrbench.harness.visible_text import visible
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.excerpt import IN_FIGURE, excerpt, left_out
from bsrbench.reports.compare.repeated_timings import TIMED_BY
from bsrbench.reports.compare.seed_pairing import tested
from bsrbench.reports.compare.time_ratios import in_one_group
from bsrbench.reports.figures import batch_figures, memory_figures, training_figures
from bsrbench.reports.figures.accuracy_points import accuracy_against
from bsrbench.reports.figures.figure_metrics import metrics_of
from bsrbench.reports.figures.ratio_bars import CUT, ratios
from bsrbench.reports.figures.same_trainings import memory_and_time
from bsrbench.reports.wording.safe_text import as_drawn
from bsrbench.reports.wording.timing_notes import without_ratio

STYLE = Path(__file__).with_name("plain.mplstyle")
MOST_DRAWN = 4  # comparisons; with more, only figures over all of them are drawn
Draw = Callable[[Comparison], Canvas | None]
ACCURACY_FIGURES = {
    f"accuracy-{part.file}": (metric, part) for metric, part in metrics_of("accuracy").items()
}


def _accuracy_caption(metric: str, part: FigurePart) -> str:
    spread = "range over seeds, quartiles" if METRICS[metric].samples else "range over seeds"
    called = part.caption or part.axis
    return f"Test accuracy and {called}; bars: {spread}; line: Pareto front."


def _caption_apart(part: FigurePart) -> str:
    """Return the caption for rows that were timed in several round groups."""
    return (
        f"Test accuracy and {part.caption or part.axis} relative to {REFERENCE}; rows were timed "
        "in several round groups; bars: range over seeds, interval of the ratio; line: Pareto "
        "front."
    )


TIME_AND_FLOPS = (
    f"Time (ratio within rounds; line: {100 * CONFIDENCE:g} % interval, cut at {CUT} times the "
    f"longest bar) and FLOPs of a step relative to {REFERENCE}"
)
SAME_TRAININGS = (
    f"Peak memory of a step, and its time and FLOPs, relative to {REFERENCE}, for rows whose "
    "trainings are the same"
)
DRAWINGS: tuple[tuple[str, str, Draw], ...] = (
    *(
        (name, _accuracy_caption(*drawn), partial(accuracy_against, metric=drawn[0], part=drawn[1]))
        for name, drawn in ACCURACY_FIGURES.items()
    ),
    (
        "memory",
        f"Counted peak memory of a training step relative to {REFERENCE}.",
        partial(ratios, parts=metrics_of("memory")),
    ),
    (
        "memory-parts",
        "Composition of the counted peak of a training step.",
        memory_figures.parts_at_peak,
    ),
    (
        "memory-optimizers",
        "Composition of the counted peak of a training step, by optimizer.",
        memory_figures.parts_by_optimizer,
    ),
    (
        "memory-words",
        "Peak of one training step: by the paper's convention, counted, and allocated.",
        memory_figures.words_of_memory,
    ),
    (
        "memory-timeline",
        "Counted memory through one training step, operator by operator.",
        memory_figures.timeline,
    ),
    (
        "activations",
        "Activations saved in the forward pass for the backward pass, per block.",
        memory_figures.activations_by_block,
    ),
    (
        "time-flops",
        f"{TIME_AND_FLOPS}.",
        partial(ratios, parts=metrics_of("time-flops")),
    ),
    (
        "memory-time",
        SAME_TRAININGS + ".",
        memory_and_time,
    ),
    (
        "curve-steps",
        "Validation accuracy against training steps; line: mean over seeds; band: range.",
        partial(training_figures.curves, parts=metrics_of("curve-steps")),
    ),
    (
        "curve-seconds",
        "Validation accuracy against seconds of training (not timed in turns); mean over seeds.",
        partial(training_figures.curves, parts=metrics_of("curve-seconds")),
    ),
)
# Captions of figures of times, if rows were timed in several round groups.
TIMED_APART = {
    **{
        name: _caption_apart(part)
        for name, (metric, part) in ACCURACY_FIGURES.items()
        if metric in TIMED_BY
    },
    "time-flops": f"{TIME_AND_FLOPS}; rows were timed in several round groups.",
    "memory-time": f"{SAME_TRAININGS}; rows were timed in several round groups.",
}


@dataclass(frozen=True)
class Figure:
    """A figure that was written.

    Attributes:
        name: name of its files, without the ending.
        caption: the content of the figure and its setting.
    """

    name: str
    caption: str


def write_all(comparisons: Sequence[Comparison], folder: Path) -> list[Figure]:
    """Draw every figure for which there are data; return them in the order of the report.

    Up to ``MOST_DRAWN`` comparisons each have their own numbered figures. The figures of memory
    and time against batch size are drawn for any number of comparisons.
    """
    made = []
    with mpl.rc_context(fname=STYLE):
        if len(comparisons) <= MOST_DRAWN:
            for number, comparison in enumerate(comparisons, start=1):
                prefix = f"{number}-" if len(comparisons) > 1 else ""
                made += _all_of(comparison, folder, prefix)
        for name, caption, canvas in batch_figures.all_of(comparisons):
            made.append(_finish(canvas, folder, name, caption, _setting(comparisons[0], "")))
    return made


def _all_of(whole: Comparison, folder: Path, prefix: str) -> list[Figure]:
    comparison = excerpt(whole, IN_FIGURE)
    setting = " ".join([_setting(comparison), *left_out(whole, comparison)])
    drawn = [(name, caption, draw(comparison)) for name, caption, draw in DRAWINGS]
    return [
        _finish(
            canvas, folder, prefix + name, *_caption_and_setting(comparison, name, caption, setting)
        )
        for name, caption, canvas in drawn
        if canvas is not None
    ]


def _caption_and_setting(
    comparison: Comparison, name: str, caption: str, setting: str
) -> tuple[str, str]:
    """Return a figure's caption and setting, with notes about rows not timed in turns."""
    tested = [row for row in comparison.rows if row.accuracy()]
    drawn = tested if name in ACCURACY_FIGURES else comparison.rows
    if name not in TIMED_APART or in_one_group(drawn):
        return caption, setting
    missing = "".join(f" Not drawn: {line}." for line in without_ratio(comparison))
    return TIMED_APART[name], setting + missing


def _finish(canvas: Canvas, folder: Path, name: str, caption: str, setting: str) -> Figure:
    """Write the setting under a figure and save it."""
    footnote = as_drawn("\n".join(textwrap.wrap(visible(setting), 100)))
    canvas.supxlabel(footnote, x=0.01, ha="left", fontsize=7)
    return save(canvas, folder, name, f"{caption} {setting}")


def _setting(comparison: Comparison, batch: str | None = None) -> str:
    workload = comparison.rows[0].spec.workload
    machines = ", ".join(map(_hardware, comparison.machines()))
    seeds = f", {_seeds(comparison)}" if comparison.seeds() else ""
    size = f" at {workload.image_size} px" if workload.image_size else ""
    batch_text = f", batch {workload.batch}" if batch is None else batch
    return (
        f"{workload.model}{size}{batch_text}, {comparison.axes()}{seeds}; "
        f"{workload.device}: {machines}."
    )


def _hardware(environment: Environment) -> str:
    """Return the name of the GPU that a record was made on, or of the processor and its cores."""
    gpu = environment.device.get("device")
    if isinstance(gpu, str) and gpu != "cpu":
        return gpu
    return f"{environment.machine.processor}, {environment.machine.cores} cores"


def _seeds(comparison: Comparison) -> str:
    """Return the number of tested seeds; with different seeds, a note about the missing front."""
    if comparison.same_seeds:
        return units.seeds(comparison.seeds())
    fewest = min(seeds for row in comparison.rows if (seeds := len(tested(row))))
    span = "different" if fewest == comparison.seeds() else f"{fewest} to {comparison.seeds()}"
    return f"{span} seeds per row (so no Pareto front)"


def save(canvas: Canvas, folder: Path, name: str, caption: str) -> Figure:
    """Write a figure as PNG, SVG and PDF without a date, so that files are reproducible."""
    description = visible(caption)
    with warnings.catch_warnings():
        # The font lacks some scripts and draws boxes for them. The tables have the correct text.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        whole = _laid_out(canvas)
        for ending, metadata in (
            ("png", {"Software": None}),
            ("svg", {"Date": None, "Description": description}),
            ("pdf", {"CreationDate": None, "Subject": description}),
        ):
            drawn = io.BytesIO()
            canvas.savefig(drawn, format=ending, metadata=metadata, bbox_inches=whole)
            write_whole(folder / f"{name}.{ending}", drawn.getvalue())
    return Figure(name, caption)


def _laid_out(canvas: Canvas) -> Bbox:
    """Lay a figure out once for all its files, and return its drawn area in inches."""
    canvas.draw_without_rendering()
    canvas.set_layout_engine("none")
    return canvas.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
