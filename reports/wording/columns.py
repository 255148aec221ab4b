"""The columns of documents, each with a function that returns the text of its cells."""

import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from bsrbench.harness.records.metric import CellForm, TableColumn, TableName
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import CONFIDENCE, Ratio
from bsrbench.harness.records.sidecar import unexplained_bytes
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.repeated_timings import has_rounds
from bsrbench.reports.compare.seed_pairing import ACCURACY, counted, tested
from bsrbench.reports.compare.shared_training import trains_as

Cell = Callable[[Comparison, ComparisonRow], str]


@dataclass(frozen=True)
class Column:
    """One column of the comparison.

    Attributes:
        title: the heading, with the unit.
        metric: the metric that the column shows; empty for other columns.
        text: returns the text of a row's cell.
        short: returns the text of a cell in a short table; ``None`` for columns that it omits.
        short_title: the heading in a short table.
        relative: whether the column shows the metric's ratio to the reference.
        ranked: whether the best value is marked, in tables that mark best values.
    """

    title: str
    metric: str
    text: Cell
    short: Cell | None = None
    short_title: str = ""
    relative: bool = False
    ranked: bool = True


def relative(metric: str) -> Cell:
    """Return the cell of a metric's ratio to the reference, without an interval."""
    return lambda comparison, row: units.ratio(comparison.ratio(row, metric))


def _value(metric: str) -> Cell:
    unit = units.of_metric(metric)
    return lambda _, row: no_value(row, metric) or unit(row.value(metric))


def no_value(row: ComparisonRow, metric: str) -> str:
    """Return ``as LABEL`` for the accuracy of a row that is not trained; otherwise empty."""
    same = trains_as(row) if metric == ACCURACY else None
    return as_row(same) if same else ""


def as_row(label: str) -> str:
    """Return the text of a cell whose value is that of another row by construction."""
    return f"as {label}"


def _spread(metric: str) -> Cell:
    """Return the cell of a value with its spread: quartiles of samples, or the range over seeds."""
    unit, sampled = units.of_metric(metric), METRICS[metric].samples

    def text(_: Comparison, row: ComparisonRow) -> str:
        spread = row.spread(metric)
        if spread is None:
            return no_value(row, metric) or units.NOTHING
        noisy = " noisy" if sampled and spread.noisy() else ""
        return f"{unit(spread.centre)} [{unit(spread.low)}, {unit(spread.high)}]{noisy}"

    return text


def _marked(metric: str) -> Cell:
    """Return the cell of a median, marked with ``~`` if it is noisy."""
    unit = units.of_metric(metric)

    def text(_: Comparison, row: ComparisonRow) -> str:
        spread = row.spread(metric)
        if spread is None:
            return units.NOTHING
        return ("~" if spread.noisy() else "") + unit(spread.centre)

    return text


def _runs(metric: str) -> Cell:
    return lambda _, row: tokens(row.by_block(metric))


CELLS: dict[CellForm, Callable[[str], Cell]] = {
    "value": _value,
    "spread": _spread,
    "marked": _marked,
    "runs": _runs,
}


def over(metric: str) -> Cell:
    """Return the cell of a metric's ratio to the reference; for times, with its interval."""
    return _over_time(metric) if has_rounds(metric) else relative(metric)


def _over_time(metric: str) -> Cell:

    def text(comparison: Comparison, row: ComparisonRow) -> str:
        return ratio_with_interval(comparison.time_ratio(row, metric))

    return text


def ratio_with_interval(ratio: Ratio | None) -> str:
    """Return the text of a ratio of times, with its interval if it has one."""
    if ratio is None:
        return units.NOTHING
    if ratio.low is None or ratio.low == ratio.high:
        return units.ratio(ratio.centre)
    return f"{units.ratio(ratio.centre)} [{units.plain(ratio.low)}, {units.plain(ratio.high)}]"


def _learning_rate(_: Comparison, row: ComparisonRow) -> str:
    spec = row.trained()
    if spec is None or spec.training is None:
        same = trains_as(row)
        return as_row(same) if same else units.NOTHING
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
    """Yield the column of a metric, then the column of its ratio to the reference."""
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
        title = f"{OVER} [{CONFIDENCE_TEXT}]" if has_rounds(metric) else OVER
        yield Column(
            title,
            metric,
            over(metric),
            over(metric) if column.short else None,
            title,
            relative=True,
            ranked=column.ranked,
        )


def _table(name: TableName, others: Mapping[int, Column] | None = None) -> tuple[Column, ...]:
    """Return the columns of a table: the columns of its metrics, and others at given places."""
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
    """Return the allocated peak minus the tensors counted then, minus the workspaces."""
    rest = unexplained_bytes(comparison.detail(row))
    return units.NOTHING if rest is None else f"{rest:,}"


OVER = f"× {REFERENCE}"
CONFIDENCE_TEXT = f"{100 * CONFIDENCE:g} %"
METHOD = Column("method", "", _label, _label, "method")
COLUMNS = (METHOD, *_table("main"), Column("learning rate", "", _learning_rate))
# Columns of predictions; they replace counted values if nothing was executed.
STAND_IN_COLUMNS = _table("stand-in")
# The columns of a table in a paper.
PAPER_COLUMNS = (METHOD, *_table("paper"))
UNEXPLAINED_PLACE = 35  # after the allocated peak
MEMORY_COLUMNS = (
    METHOD,
    *_table("memory", {UNEXPLAINED_PLACE: Column("unexplained B", "", _unexplained)}),
)
WORK_COLUMNS = (METHOD, *_table("work"))
OUTCOME = Column("outcome", "", _outcome, _short_outcome, "outcome")
# Shown next to the accuracy if rows were tested with different seeds.
SEEDS = Column("seeds", "", _seeds, _short_seeds, "seeds")


def with_seeds(comparison: Comparison, columns: tuple[Column, ...]) -> tuple[Column, ...]:
    """Return columns with the seeds after the accuracy, if rows have different seeds."""
    if comparison.same_seeds:
        return columns
    place = 1 + next(at for at, column in enumerate(columns) if column.metric == ACCURACY)
    return (*columns[:place], SEEDS, *columns[place:])


def paper_columns(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns of a table in a paper."""
    return with_seeds(comparison, PAPER_COLUMNS)


def tokens(counts: list[int]) -> str:
    """Return the tokens of each block; equal neighbours are merged: ``197 x3, 100 x3``."""
    runs = [(count, len(list(same))) for count, same in itertools.groupby(counts)]
    return ", ".join(f"{count} x{times}" for count, times in runs) or units.NOTHING
