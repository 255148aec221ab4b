"""The columns that documents show, each with what stands in its cells as text."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from bsrbench.reports import units
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.seed_pairing import ACCURACY, counted, tested

Cell = Callable[[Comparison, ComparisonRow], str]


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Attributes:
        title: its heading, unit included.
        metric: the metric it shows, whose definition belongs to it; empty for none.
        text: what stands in a row's cell.
        short: what stands there where there is little room; ``None`` leaves the column out.
        short_title: its heading there.
        relative: whether it shows the metric's ratio to the reference.
    """

    title: str
    metric: str
    text: Cell
    short: Cell | None = None
    short_title: str = ""
    relative: bool = False


def _relative(metric: str) -> Cell:
    return lambda comparison, row: units.ratio(comparison.ratio(row, metric))


def _value(metric: str, unit: Callable[[float | None], str]) -> Cell:
    return lambda _, row: unit(row.value(metric))


def _accuracy(_: Comparison, row: ComparisonRow) -> str:
    found = row.accuracy()
    if found is None:
        return units.NOTHING
    return f"{units.share(found.centre)} [{units.share(found.low)}, {units.share(found.high)}]"


def _step_time(_: Comparison, row: ComparisonRow) -> str:
    found = row.step_seconds()
    if found is None:
        return units.NOTHING
    spread = f"[{units.milliseconds(found.low)}, {units.milliseconds(found.high)}]"
    return f"{units.milliseconds(found.centre)} {spread}" + (" noisy" if found.noisy() else "")


def _learning_rate(_: Comparison, row: ComparisonRow) -> str:
    spec = row.trained()
    if spec is None or spec.training is None:
        return units.NOTHING
    tuned = "" if spec.training.tries else " (not tuned)"
    return units.learning_rate(spec.training.learning_rate) + tuned


def _short_step_time(_: Comparison, row: ComparisonRow) -> str:
    found = row.step_seconds()
    if found is None:
        return units.NOTHING
    return ("~" if found.noisy() else "") + units.milliseconds(found.centre)


def _over_time(comparison: Comparison, row: ComparisonRow) -> str:
    found = comparison.time_ratio(row)
    if found is None:
        return units.NOTHING
    if found.low is None or found.low == found.high:
        return units.ratio(found.centre)
    return f"{units.ratio(found.centre)} [{units.plain(found.low)}, {units.plain(found.high)}]"


def _label(_: Comparison, row: ComparisonRow) -> str:
    return row.label


def _outcome(_: Comparison, row: ComparisonRow) -> str:
    return "; ".join(row.failures()) or "completed"


def _seeds(_: Comparison, row: ComparisonRow) -> str:
    return counted(tested(row))


def _short_seeds(_: Comparison, row: ComparisonRow) -> str:
    return units.count(len(tested(row)) or None)


def _short_outcome(_: Comparison, row: ComparisonRow) -> str:
    return ", ".join(row.statuses())


COUNTED = _value("peak_counted_bytes", units.mebibytes)
STEP_FLOP = _value("step_flop", units.gigaflop)
TRAINED = _value("trained_parameters", units.millions)
OVER_MEMORY, OVER_FLOP, OVER_TIME = (
    _relative(metric) for metric in ("peak_counted_bytes", "step_flop", "step_seconds")
)


def _over(metric: str, text: Cell, short: Cell | None = None, title: str = "× full") -> Column:
    """Return the column of a metric's ratio to the reference."""
    return Column(title, metric, text, short, "× full", relative=True)


COLUMNS = (
    Column("method", "", _label, _label, "method"),
    Column(
        "accuracy [range]",
        "accuracy_top1",
        _accuracy,
        _value("accuracy_top1", units.share),
        "accuracy",
    ),
    Column("counted MiB", "peak_counted_bytes", COUNTED, COUNTED, "counted MiB"),
    _over("peak_counted_bytes", OVER_MEMORY, OVER_MEMORY),
    Column(
        "allocated MiB", "peak_allocated_bytes", _value("peak_allocated_bytes", units.mebibytes)
    ),
    Column("process MiB", "peak_process_bytes", _value("peak_process_bytes", units.mebibytes)),
    Column("step GFLOP", "step_flop", STEP_FLOP, STEP_FLOP, "step GFLOP"),
    _over("step_flop", OVER_FLOP, OVER_FLOP),
    Column("step ms [quartiles]", "step_seconds", _step_time, _short_step_time, "step ms"),
    _over("step_seconds", _over_time, OVER_TIME, "× full [95 %]"),
    Column("img/s", "images_per_second", _value("images_per_second", units.rate)),
    Column(
        "eval img/s",
        "evaluation_images_per_second",
        _value("evaluation_images_per_second", units.rate),
    ),
    Column("trained M", "trained_parameters", TRAINED, TRAINED, "trained M"),
    Column("learning rate", "", _learning_rate),
)
PREDICTED = _value("peak_estimated_bytes", units.mebibytes)
OVER_PREDICTED = _relative("peak_estimated_bytes")
# In the place of what was counted, where nothing was executed.
PREDICTED_COLUMNS = (
    Column("predicted MiB", "peak_estimated_bytes", PREDICTED, PREDICTED, "predicted MiB"),
    _over("peak_estimated_bytes", OVER_PREDICTED, OVER_PREDICTED),
)
OUTCOME = Column("outcome", "", _outcome, _short_outcome, "outcome")
# Beside the accuracy, where rows were tested with different seeds.
SEEDS = Column("seeds", "", _seeds, _short_seeds, "seeds")
# What a paper has room for.
PAPER_COLUMNS = (
    COLUMNS[0],
    Column("accuracy", "accuracy_top1", _accuracy),
    Column("memory (MiB)", "peak_counted_bytes", COUNTED),
    _over("peak_counted_bytes", OVER_MEMORY),
    Column("GFLOP", "step_flop", STEP_FLOP),
    _over("step_flop", OVER_FLOP),
    Column("step (ms)", "step_seconds", _short_step_time),
    _over("step_seconds", _over_time, title="× full [95 %]"),
)
JUDGED = {
    *("accuracy_top1", "peak_counted_bytes", "peak_allocated_bytes", "peak_process_bytes"),
    "peak_estimated_bytes",
    *("step_flop", "step_seconds", "images_per_second", "evaluation_images_per_second"),
}


def _unexplained(comparison: Comparison, row: ComparisonRow) -> str:
    """Return the allocated peak less the tensors counted at that moment and the workspaces."""
    rest = comparison.detail(row).get("allocated", {}).get("unexplained_bytes")
    return units.NOTHING if rest is None else f"{rest:,}"


MEMORY_COLUMNS = (
    Column("method", "", _label),
    Column("counted MiB", "peak_counted_bytes", COUNTED),
    Column("workspace MiB", "workspace_bytes", _value("workspace_bytes", units.mebibytes)),
    Column(
        "allocated MiB", "peak_allocated_bytes", _value("peak_allocated_bytes", units.mebibytes)
    ),
    Column("unexplained B", "", _unexplained),
    Column("process MiB", "peak_process_bytes", _value("peak_process_bytes", units.mebibytes)),
    Column("residual MiB", "residual_bytes", _value("residual_bytes", units.mebibytes)),
    Column(
        "first step MiB", "peak_first_step_bytes", _value("peak_first_step_bytes", units.mebibytes)
    ),
    Column(
        "held after forward MiB",
        "held_after_forward_bytes",
        _value("held_after_forward_bytes", units.mebibytes),
    ),
    Column(
        "estimated MiB", "peak_estimated_bytes", _value("peak_estimated_bytes", units.mebibytes)
    ),
    Column("error", "estimate_error", _value("estimate_error", units.percent)),
    Column(
        "paper convention MB",
        "paper_convention_bytes",
        _value("paper_convention_bytes", units.mebibytes),
    ),
)
WORK_COLUMNS = (
    Column("method", "", _label),
    Column("forward GFLOP", "forward_flop", _value("forward_flop", units.gigaflop)),
    Column("step GFLOP", "step_flop", STEP_FLOP),
    Column("forward GMAC", "forward_macs", _value("forward_macs", units.gigamacs)),
    Column("forward ms", "forward_seconds", _value("forward_seconds", units.milliseconds)),
    Column("backward ms", "backward_seconds", _value("backward_seconds", units.milliseconds)),
    Column("optimizer ms", "optimizer_seconds", _value("optimizer_seconds", units.milliseconds)),
    Column("compile s", "compile_seconds", _value("compile_seconds", units.seconds)),
    Column("J / image", "joules_per_image", _value("joules_per_image", units.joules)),
    Column("tokens", "tokens_after_block", lambda _, row: tokens(row.tokens())),
)


def with_seeds(comparison: Comparison, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return columns with the seeds behind the accuracy, where rows have different ones."""
    if comparison.same_seeds:
        return columns
    place = 1 + next(at for at, column in enumerate(columns) if column.metric == ACCURACY)
    return (*columns[:place], SEEDS, *columns[place:])


def paper_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns a paper has room for."""
    return with_seeds(comparison, PAPER_COLUMNS)


def tokens(counts: list[int]) -> str:
    """Return tokens block by block, runs of one number written once: ``197 x3, 100 x3``."""
    runs = [(count, len(list(same))) for count, same in itertools.groupby(counts)]
    return ", ".join(f"{count} x{times}" for count, times in runs) or units.NOTHING
