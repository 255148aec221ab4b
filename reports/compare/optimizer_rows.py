"""Rows that differ from another row only in the optimizer, and that row with AdamW."""

from collections import defaultdict
from collections.abc import Hashable
from dataclasses import replace

from bsrbench.harness.spec.row_name import RowName
from bsrbench.harness.spec.workload_axes import AXES, AxisValue
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow

REFERENCE_OPTIMIZER = "adamw"
PLACE = AXES.index("optimizer")


def with_references(comparison: Comparison) -> list[tuple[ComparisonRow, ComparisonRow]]:
    """Return each row of several optimizers with its reference: the same row with AdamW.

    The rows of a pair have the same method, options, machine and other axes. Rows of a method that
    was measured with one optimizer only, or without AdamW and its defaults, are left out.
    """
    alike: dict[Hashable, list[ComparisonRow]] = defaultdict(list)
    for row in comparison.rows:
        alike[_with_optimizer(row.name, REFERENCE_OPTIMIZER), row.machine()].append(row)
    return [
        (row, references[0])
        for rows in alike.values()
        for references in [[row for row in rows if optimizer_of(row) == REFERENCE_OPTIMIZER]]
        if len(references) == 1 and len({optimizer_of(row) for row in rows}) > 1
        for row in rows
    ]


def ratio_of_values(metric: str, row: ComparisonRow, reference: ComparisonRow) -> float | None:
    """Return a row's value divided by its reference's; for metrics that are not timed in turns."""
    own, theirs = row.value(metric), reference.value(metric)
    return None if own is None or not theirs else own / theirs


def optimizer_of(row: ComparisonRow) -> AxisValue:
    """Return a row's optimizer and what is not its default, for example ``galore rank=64``."""
    return row.name.axes[PLACE]


def label_with_optimizer(row: ComparisonRow) -> str:
    """Return a row's label with its optimizer, which the label alone leaves out if it is usual."""
    axes = {**row.printed.axes, "optimizer": optimizer_of(row)}
    return str(replace(row.printed, axes=axes))


def _with_optimizer(name: RowName, optimizer: str) -> RowName:
    axes = (*name.axes[:PLACE], optimizer, *name.axes[PLACE + 1 :])
    return RowName(name.method, name.options, axes)
