"""The columns that documents show, each with what stands in its cells as text."""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bsrbench.harness.records.metric import CellForm, TableColumn, TableName
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.sidecar import unexplained_bytes
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.repeated_timings import has_rounds
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
        ranked: whether the best value is marked, where a table marks any.
    """

    title: str
    metric: str
    text: Cell
    short: Cell | None = None
    short_title: str = ""
    relative: bool = False
    ranked: bool = True


def _relative(metric: str) -> Cell:
    return lambda comparison, row: units.ratio(comparison.ratio(row, metric))


def _value(metric: str) -> Cell:
    unit = units.of_metric(metric)
    return lambda _, row: unit(row.value(metric))


def _spread(metric: str) -> Cell:
    """Return the cell of a value with its spread: quartiles of samples, else the range of seeds."""
    unit, sampled = units.of_metric(metric), METRICS[metric].samples

    def text(_: Comparison, row: ComparisonRow) -> str:
        found = row.spread(metric)
        if found is None:
            return units.NOTHING
        noisy = " noisy" if sampled and found.noisy() else ""
        return f"{unit(found.centre)} [{unit(found.low)}, {unit(found.high)}]{noisy}"

    return text


def _marked(metric: str) -> Cell:
    """Return the cell of a median, marked by ``~`` where it is noisy."""
    unit = units.of_metric(metric)

    def text(_: Comparison, row: ComparisonRow) -> str:
        found = row.spread(metric)
        if found is None:
            return units.NOTHING
        return ("~" if found.noisy() else "") + unit(found.centre)

    return text


def _runs(metric: str) -> Cell:
    return lambda _, row: tokens(row.by_block(metric))


CELLS: dict[CellForm, Callable[[str], Cell]] = {
    "value": _value,
    "spread": _spread,
    "marked": _marked,
    "runs": _runs,
}


def _over_time(metric: str) -> Cell:
    """Return the cell of a ratio of times, with its interval."""

    def text(comparison: Comparison, row: ComparisonRow) -> str:
        found = comparison.time_ratio(row, metric)
        if found is None:
            return units.NOTHING
        if found.low is None or found.low == found.high:
            return units.ratio(found.centre)
        return f"{units.ratio(found.centre)} [{units.plain(found.low)}, {units.plain(found.high)}]"

    return text


def _learning_rate(_: Comparison, row: ComparisonRow) -> str:
    spec = row.trained()
    if spec is None or spec.training is None:
        return units.NOTHING
    tuned = "" if spec.training.tries else " (not tuned)"
    return units.learning_rate(spec.training.learning_rate) + tuned


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


def _columns_of(metric: str, column: TableColumn) -> Iterator[Column]:
    """Yield a metric's column in a table, and that of its ratio to the reference behind it."""
    # A terminal has no room for quartiles.
    short = _marked if column.form == "spread" and METRICS[metric].samples else _value
    yield Column(
        column.title,
        metric,
        CELLS[column.form](metric),
        short(metric) if column.short else None,
        column.short,
        ranked=column.ranked,
    )
    if column.ratio:
        timed = has_rounds(metric)
        yield Column(
            f"{OVER} [95 %]" if timed else OVER,
            metric,
            _over_time(metric) if timed else _relative(metric),
            _relative(metric) if column.short else None,
            OVER,
            relative=True,
            ranked=column.ranked,
        )


def _table(name: TableName, others: Mapping[int, Column] | None = None) -> tuple[Column, ...]:
    """Return the columns of a table: its metrics', and others by their places."""
    placed = [
        (column.place, list(_columns_of(metric, column)))
        for metric, of_metric in METRICS.items()
        if (column := of_metric.column(name)) is not None
    ]
    placed += [(place, [column]) for place, column in (others or {}).items()]
    return tuple(
        column for _, columns in sorted(placed, key=operator.itemgetter(0)) for column in columns
    )


def _unexplained(comparison: Comparison, row: ComparisonRow) -> str:
    """Return the allocated peak less the tensors counted at that moment and the workspaces."""
    rest = unexplained_bytes(comparison.detail(row))
    return units.NOTHING if rest is None else f"{rest:,}"


OVER = f"× {REFERENCE}"
METHOD = Column("method", "", _label, _label, "method")
COLUMNS = (METHOD, *_table("main"), Column("learning rate", "", _learning_rate))
# In the place of what was counted, where nothing was executed.
STAND_IN_COLUMNS = _table("stand-in")
# What a paper has room for.
PAPER_COLUMNS = (METHOD, *_table("paper"))
UNEXPLAINED_PLACE = 35  # behind what was allocated
MEMORY_COLUMNS = (
    METHOD,
    *_table("memory", {UNEXPLAINED_PLACE: Column("unexplained B", "", _unexplained)}),
)
WORK_COLUMNS = (METHOD, *_table("work"))
OUTCOME = Column("outcome", "", _outcome, _short_outcome, "outcome")
# Beside the accuracy, where rows were tested with different seeds.
SEEDS = Column("seeds", "", _seeds, _short_seeds, "seeds")


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
