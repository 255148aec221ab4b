"""The columns every writer shows, as text."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.metrics import METRICS
from reports import units
from reports.comparison import REFERENCE, Comparison
from reports.row import Row
from reports.statistics import accuracy_within, time_to

Curve = tuple[list[float], list[float]]
TARGET_SHARE = 0.95
Cell = Callable[[Comparison, Row], str]


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Attributes:
        title: its heading, unit included.
        metric: the metric it shows, whose definition belongs to it; empty for none.
        text: what stands in a row's cell.
        short: what stands there where there is little room; ``None`` leaves the column out.
        short_title: its heading there.
    """

    title: str
    metric: str
    text: Cell
    short: Cell | None = None
    short_title: str = ""


def _relative(metric: str) -> Cell:
    return lambda comparison, row: units.ratio(comparison.ratio(row, metric))


def _value(metric: str, unit: Callable[[float | None], str]) -> Cell:
    return lambda _, row: unit(row.value(metric))


def _accuracy(_: Comparison, row: Row) -> str:
    found = row.accuracy()
    if found is None:
        return units.NOTHING
    return f"{units.share(found.centre)} [{units.share(found.low)}, {units.share(found.high)}]"


def _step_time(_: Comparison, row: Row) -> str:
    found = row.step_seconds()
    if found is None:
        return units.NOTHING
    spread = f"[{units.milliseconds(found.low)}, {units.milliseconds(found.high)}]"
    return f"{units.milliseconds(found.centre)} {spread}" + (" noisy" if found.noisy() else "")


def _learning_rate(_: Comparison, row: Row) -> str:
    spec = row.trained()
    if spec is None or spec.training is None:
        return units.NOTHING
    tuned = "" if spec.training.tries else " (not tuned)"
    return units.learning_rate(spec.training.learning_rate) + tuned


def _short_step_time(_: Comparison, row: Row) -> str:
    found = row.step_seconds()
    if found is None:
        return units.NOTHING
    return ("~" if found.noisy() else "") + units.milliseconds(found.centre)


def _over_time(comparison: Comparison, row: Row) -> str:
    found = comparison.time_ratio(row)
    if found is None:
        return units.NOTHING
    if found.low is None or found.low == found.high:
        return units.ratio(found.centre)
    return f"{units.ratio(found.centre)} [{units.plain(found.low)}, {units.plain(found.high)}]"


def _label(_: Comparison, row: Row) -> str:
    return row.label


def _outcome(_: Comparison, row: Row) -> str:
    return "; ".join(row.failures()) or "completed"


def _short_outcome(_: Comparison, row: Row) -> str:
    return ", ".join(row.statuses())


COUNTED = _value("peak_counted_bytes", units.mebibytes)
STEP_FLOP = _value("step_flop", units.gigaflop)
TRAINED = _value("trained_parameters", units.millions)
OVER_MEMORY, OVER_FLOP, OVER_TIME = (
    _relative(metric) for metric in ("peak_counted_bytes", "step_flop", "step_seconds")
)

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
    Column("× full", "peak_counted_bytes", OVER_MEMORY, OVER_MEMORY, "× full"),
    Column(
        "allocated MiB", "peak_allocated_bytes", _value("peak_allocated_bytes", units.mebibytes)
    ),
    Column("process MiB", "peak_process_bytes", _value("peak_process_bytes", units.mebibytes)),
    Column("step GFLOP", "step_flop", STEP_FLOP, STEP_FLOP, "step GFLOP"),
    Column("× full", "step_flop", OVER_FLOP, OVER_FLOP, "× full"),
    Column("step ms [quartiles]", "step_seconds", _step_time, _short_step_time, "step ms"),
    Column("× full [95 %]", "step_seconds", _over_time, OVER_TIME, "× full"),
    Column("img/s", "images_per_second", _value("images_per_second", units.rate)),
    Column(
        "eval img/s",
        "evaluation_images_per_second",
        _value("evaluation_images_per_second", units.rate),
    ),
    Column("trained M", "trained_parameters", TRAINED, TRAINED, "trained M"),
    Column("learning rate", "", _learning_rate),
)
OUTCOME = Column("outcome", "", _outcome, _short_outcome, "outcome")
# What a paper has room for.
PAPER_COLUMNS = (
    COLUMNS[0],
    Column("accuracy", "accuracy_top1", _accuracy),
    Column("memory (MiB)", "peak_counted_bytes", COUNTED),
    Column("× full", "peak_counted_bytes", OVER_MEMORY),
    Column("GFLOP", "step_flop", STEP_FLOP),
    Column("× full", "step_flop", OVER_FLOP),
    Column("step (ms)", "step_seconds", _short_step_time),
    Column("× full [95 %]", "step_seconds", _over_time),
)
JUDGED = {
    *("accuracy_top1", "peak_counted_bytes", "peak_allocated_bytes", "peak_process_bytes"),
    *("step_flop", "step_seconds", "images_per_second", "evaluation_images_per_second"),
}


def _unexplained(comparison: Comparison, row: Row) -> str:
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


def tokens(counts: list[int]) -> str:
    """Return tokens block by block, runs of one number written once: ``197 x3, 100 x3``."""
    runs = [(count, len(list(same))) for count, same in itertools.groupby(counts)]
    return ", ".join(f"{count} x{times}" for count, times in runs) or units.NOTHING


def sections(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, headings and rows of the tables that stand behind the first one."""
    named = [
        ("Memory of a step, meter by meter", MEMORY_COLUMNS),
        ("Work of a step", WORK_COLUMNS),
    ]
    profiled = [row for row in comparison.rows if row.profiled()]
    found = [
        (
            title,
            [column.title for column in columns],
            [[column.text(comparison, row) for column in columns] for row in profiled],
        )
        for title, columns in named
        if profiled
    ]
    return found + curves(comparison)


def curves(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the table of accuracy over time; none where no curve was read.

    The accuracy asked for is a share of what the reference (else the best row) read last, the time
    is the shortest training of any row.
    """
    rows = [(row, curves) for row in comparison.rows if (curves := row.curves())]
    if not rows:
        return []
    last = {row.label: fmean(accuracies[-1] for _, accuracies in read) for row, read in rows}
    target = TARGET_SHARE * last.get(REFERENCE, max(last.values()))
    budget = min(seconds[-1] for _, read in rows for seconds, _ in read)
    titles = [
        *("method", "seeds", "training s", "last accuracy"),
        *(f"s to {units.share(target)}", f"accuracy in {units.seconds(budget)} s"),
    ]
    body = [_curve_cells(row, read, target, budget) for row, read in rows]
    return [("Validation accuracy over training time (not timed in turns)", titles, body)]


def _curve_cells(row: Row, read: list[Curve], target: float, budget: float) -> list[str]:
    reached = [time_to(*curve, target) for curve in read]
    within = [accuracy_within(*curve, budget) for curve in read]
    some = [when for when in reached if when is not None]
    early = [accuracy for accuracy in within if accuracy is not None]
    missed = f" ({len(read) - len(some)} never)" if len(some) < len(read) else ""
    return [
        row.label,
        str(len(read)),
        units.seconds(fmean(seconds[-1] for seconds, _ in read)),
        units.share(fmean(accuracies[-1] for _, accuracies in read)),
        units.seconds(fmean(some) if some else None) + missed,
        units.share(fmean(early) if len(early) == len(read) else None),
    ]


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of all columns."""
    return _cells(comparison, shown(comparison))


def shown(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns, how trials ended among them where one did not complete."""
    return (*COLUMNS, OUTCOME) if any(row.failures() for row in comparison.rows) else COLUMNS


def paper_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the columns a paper has room for; ~ marks noisy times."""
    return _cells(comparison, PAPER_COLUMNS)


def _cells(comparison: Comparison, columns: Sequence[Column]) -> tuple[list[str], list[list[str]]]:
    rows = [[column.text(comparison, row) for column in columns] for row in comparison.rows]
    return [column.title for column in columns], rows


def short_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the columns that fit a terminal; ~ marks noisy times."""
    columns = short_columns(comparison)
    titles = [column.short_title for column in columns]
    rows = [[c.short(comparison, row) for c in columns if c.short] for row in comparison.rows]
    return titles, rows


def short_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns that fit a terminal."""
    return tuple(column for column in shown(comparison) if column.short)


def best(comparison: Comparison, columns: Sequence[Column]) -> set[tuple[int, int]]:
    """Return row and column of the best values, where one can be better than another."""
    found = set()
    for place, column in enumerate(columns):
        if column.metric not in JUDGED:
            continue
        values = [row.value(column.metric) for row in comparison.rows]
        there = [value for value in values if value is not None]
        if len(set(there)) > 1:
            wanted = max(there) if METRICS[column.metric].direction == "higher" else min(there)
            found |= {(row, place) for row, value in enumerate(values) if value == wanted}
    return found


def tries(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the learning rates tried; no rows where none were."""
    specs = [(row.label, row.trained()) for row in comparison.rows]
    rows = []
    for label, spec in specs:
        if spec is None or spec.training is None or not spec.training.tries:
            continue
        tried = ", ".join(
            f"{units.learning_rate(t.learning_rate)}: {units.share(t.validation_accuracy)}"
            for t in spec.training.tries
        )
        rows.append([label, tried, units.learning_rate(spec.training.learning_rate)])
    return ["method", "tried (learning rate: validation accuracy)", "chosen"], rows
