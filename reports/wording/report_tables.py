"""The tables of documents, as text: headings and rows."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.seed_pairing import ACCURACY, counted, tested
from bsrbench.reports.compare.statistics import accuracy_within, mean_and_range, time_to
from bsrbench.reports.wording import optimizer_table
from bsrbench.reports.wording.columns import (
    COLUMNS,
    MEMORY_COLUMNS,
    OUTCOME,
    STAND_IN_COLUMNS,
    WORK_COLUMNS,
    Column,
    paper_columns,
    with_seeds,
)

Curve = tuple[list[float], list[float]]
TARGET_SHARE = 0.95
OF_A_DEVICE = {"CPU", "NVIDIA GPU"}  # what only some devices have; it is named in Metric.needs


def sections(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, headings and rows of the tables after the main table."""
    named = [
        ("Memory of a step, meter by meter", MEMORY_COLUMNS),
        ("Work of a step", WORK_COLUMNS),
    ]
    profiled = [row for row in comparison.rows if row.profiled()]
    tables = [
        (
            title,
            [column.title for column in columns],
            [[column.text(comparison, row) for column in columns] for row in profiled],
        )
        for title, columns in named
        if profiled
    ]
    return tasks(comparison) + optimizer_table.sections(comparison) + tables + curves(comparison)


def tasks(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the table of accuracies per task; no table if there is only one task.

    Cells are means over the row's own seeds, with the range if there are several. If rows have
    different seeds, a column lists them.
    """
    rows = [(row, row.by_task()) for row in comparison.rows]
    read = [(row, by_task) for row, by_task in rows if any(by_task.values())]
    if not read:
        return []
    body = [
        [
            row.label,
            *([] if comparison.same_seeds else [_which_seeds(row)]),
            *(_of_seeds(by_seed.values()) for by_seed in by_task.values()),
            _mean_of(row),
        ]
        for row, by_task in read
    ]
    named = ["method"] if comparison.same_seeds else ["method", "seeds"]
    titles = [*named, *read[0][1], "mean over tasks"]
    return [("Test accuracy task by task", titles, body)]


def _mean_of(row: ComparisonRow) -> str:
    return _of_seeds(row.accuracies())


def _of_seeds(values: Iterable[float]) -> str:
    summary = mean_and_range(list(values))
    if summary is None:
        return units.NOTHING
    spread = f" [{units.share(summary.low)}, {units.share(summary.high)}]"
    return units.share(summary.centre) + (spread if summary.count > 1 else "")


def curves(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the table of accuracy over time; no table if there are no curves.

    The target accuracy is a share of the last accuracy of the reference (without a reference: of
    the best row). The time limit is the shortest training time of any row.
    """
    rows = [(row, curves) for row in comparison.rows if (curves := row.curves())]
    if not rows:
        return []
    last = [fmean(accuracies[-1] for _, accuracies in read) for _, read in rows]
    reference = comparison.find(REFERENCE)
    of_reference = [end for (row, _), end in zip(rows, last, strict=True) if row is reference]
    target = TARGET_SHARE * max(of_reference or last)
    budget = min(seconds[-1] for _, read in rows for seconds, _ in read)
    titles = [
        *("method", "seeds", "training s", "last accuracy"),
        *(f"s to {units.share(target)}", f"accuracy in {units.seconds(budget)} s"),
    ]
    named = (lambda row: units.count(len(row.curves()))) if comparison.same_seeds else _which_seeds
    body = [[row.label, named(row), *_curve_cells(read, target, budget)] for row, read in rows]
    return [("Validation accuracy over training time (not timed in turns)", titles, body)]


def _which_seeds(row: ComparisonRow) -> str:
    return counted(tested(row))


def _curve_cells(read: list[Curve], target: float, budget: float) -> list[str]:
    reached = [time_to(*curve, target) for curve in read]
    within = [accuracy_within(*curve, budget) for curve in read]
    some = [when for when in reached if when is not None]
    early = [accuracy for accuracy in within if accuracy is not None]
    missed = f" ({len(read) - len(some)} never)" if len(some) < len(read) else ""
    return [
        units.seconds(fmean(seconds[-1] for seconds, _ in read)),
        units.share(fmean(accuracies[-1] for _, accuracies in read)),
        units.seconds(fmean(some) if some else None) + missed,
        units.share(fmean(early) if len(early) == len(read) else None),
    ]


def cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of the main table."""
    return cells_of(comparison, shown(comparison))


def shown(comparison: Comparison) -> tuple[Column, ...]:
    """Return the columns of the main table, with outcomes if a trial did not complete.

    Memory is the counted peak, or the predicted peak if no row was executed.
    """
    columns = tuple(c for c in with_seeds(comparison, COLUMNS) if _is_needed(comparison, c))
    for metric in dict.fromkeys(column.metric for column in STAND_IN_COLUMNS):
        columns = _with_stand_in(comparison, columns, metric)
    return (*columns, OUTCOME) if any(row.failures() for row in comparison.rows) else columns


def _is_needed(comparison: Comparison, column: Column) -> bool:
    """Tell whether a column belongs in the table; one that only some devices have needs a value."""
    needs = METRICS[column.metric].needs if column.metric in METRICS else ()
    return OF_A_DEVICE.isdisjoint(needs) or _has(comparison, column.metric)


def _with_stand_in(
    comparison: Comparison, columns: tuple[Column, ...], metric: str
) -> tuple[Column, ...]:
    """Return the columns; a metric replaces the missing metric for which it stands in."""
    absent = METRICS[metric].stands_in_for
    if not _has(comparison, metric) or _has(comparison, absent):
        return columns
    place = next(place for place, column in enumerate(columns) if column.metric == absent)
    rest = [column for column in columns[place:] if column.metric != absent]
    stand_in = [column for column in STAND_IN_COLUMNS if column.metric == metric]
    return (*columns[:place], *stand_in, *rest)


def _has(comparison: Comparison, metric: str) -> bool:
    return any(row.value(metric) is not None for row in comparison.rows)


def paper_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the table for a paper; ~ marks noisy times."""
    return cells_of(comparison, paper_columns(comparison))


def cells_of(
    comparison: Comparison, columns: Sequence[Column]
) -> tuple[list[str], list[list[str]]]:
    """Return the headings and rows of a table with these columns."""
    rows = [[column.text(comparison, row) for column in columns] for row in comparison.rows]
    return [column.title for column in columns], rows


def best(comparison: Comparison, columns: Sequence[Column]) -> set[tuple[int, int]]:
    """Return the row and column indices of the best values of ranked columns.

    A column whose values are all equal has no best value. A missing value is never the best. No
    accuracy is the best if rows were tested with different seeds. Times are compared only with
    times that were measured in turns with them.
    """
    places = set()
    for place, column in enumerate(columns):
        if not (column.metric and column.ranked and _is_comparable(comparison, column.metric)):
            continue
        values = _ranked(comparison, column)
        there = [value for value in values if value is not None]
        if len(set(there)) > 1:
            best_value = max(there) if METRICS[column.metric].direction == "higher" else min(there)
            places |= {(row, place) for row, value in enumerate(values) if value == best_value}
    return places


def _is_comparable(comparison: Comparison, metric: str) -> bool:
    return metric != ACCURACY or comparison.same_seeds


def _ranked(comparison: Comparison, column: Column) -> list[float | None]:
    """Return the number by which each row is ranked in a column."""
    if column.relative:
        return [comparison.ratio(row, column.metric) for row in comparison.rows]
    return comparison.ranked(column.metric, comparison.rows)


def tries(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows of the learning rates tried; no rows if none were tried."""
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
