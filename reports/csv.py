"""The comparison as comma-separated values: one line a row, a column a metric, unrounded."""

from pathlib import Path

import pandas as pd

from harness.metrics import METRICS
from reports.comparison import BASELINE, REFERENCE, Comparison
from reports.row import Row

RELATIVE = ("peak_counted_bytes", "peak_allocated_bytes", "step_flop", "step_seconds")


def write(comparisons: list[Comparison], path: Path) -> None:
    """Write the file."""
    frame = pd.DataFrame([_line(found, row) for found in comparisons for row in found.rows])
    frame.to_csv(path, index=False, lineterminator="\n")


def _line(comparison: Comparison, row: Row) -> dict[str, object]:
    line: dict[str, object] = {"row": row.label, "method": row.spec.method}
    line["outcome"] = "; ".join(row.failures()) or "completed"
    line |= row.spec.workload.model_dump()
    spec = row.trained()
    line["learning_rate"] = spec.training.learning_rate if spec and spec.training else None
    accuracy = row.accuracy()
    line["seeds"] = accuracy.count if accuracy else 0
    line |= {metric: row.value(metric) for metric in METRICS if metric != "tokens_after_block"}
    line["tokens_after_block"] = " ".join(str(count) for count in row.tokens())
    for metric in RELATIVE:
        line[f"{metric}_over_{REFERENCE}"] = comparison.ratio(row, metric)
        line[f"{metric}_over_{BASELINE}"] = comparison.ratio(row, metric, BASELINE)
    return line
