"""The columns every writer shows, as text."""

from collections.abc import Callable
from dataclasses import dataclass

from reports import units
from reports.comparison import Comparison, Row


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Attributes:
        title: its heading, unit included.
        metric: the metric it shows, whose definition belongs to it; empty for none.
        text: what stands in a row's cell.
        wide: left out where there is little room.
    """

    title: str
    metric: str
    text: Callable[[Comparison, Row], str]
    wide: bool = False


def _relative(metric: str) -> Callable[[Comparison, Row], str]:
    return lambda comparison, row: units.ratio(comparison.ratio(row, metric))


def _value(metric: str, unit: Callable[[float | None], str]) -> Callable[[Comparison, Row], str]:
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


COLUMNS = (
    Column("method", "", lambda _, row: row.label),
    Column("accuracy [range]", "accuracy_top1", _accuracy),
    Column("counted MiB", "peak_counted_bytes", _value("peak_counted_bytes", units.mebibytes)),
    Column("× full", "peak_counted_bytes", _relative("peak_counted_bytes")),
    Column(
        "allocated MiB", "peak_allocated_bytes", _value("peak_allocated_bytes", units.mebibytes)
    ),
    Column("process MiB", "peak_process_bytes", _value("peak_process_bytes", units.mebibytes)),
    Column("forward GFLOP", "forward_flop", _value("forward_flop", units.gigaflop), wide=True),
    Column("step GFLOP", "step_flop", _value("step_flop", units.gigaflop)),
    Column("× full", "step_flop", _relative("step_flop")),
    Column("step ms [quartiles]", "step_seconds", _step_time),
    Column("× full", "step_seconds", _relative("step_seconds")),
    Column("img/s", "images_per_second", _value("images_per_second", units.rate), wide=True),
    Column(
        "eval img/s",
        "evaluation_images_per_second",
        _value("evaluation_images_per_second", units.rate),
        wide=True,
    ),
    Column("trained M", "trained_parameters", _value("trained_parameters", units.millions)),
    Column("learning rate", "", _learning_rate, wide=True),
)


def cells(comparison: Comparison, *, wide: bool = True) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows; without ``wide``, only the columns that fit a terminal."""
    shown = [column for column in COLUMNS if wide or not column.wide]
    titles = [column.title for column in shown]
    return titles, [[column.text(comparison, row) for column in shown] for row in comparison.rows]


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
