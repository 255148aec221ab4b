"""The comparison as comma-separated values: one line a row, a column a metric, unrounded."""

import csv
import functools
from pathlib import Path
from statistics import fmean

from harness.metrics import METRICS
from harness.spec import Workload
from reports.comparison import BASELINE, REFERENCE, Comparison
from reports.names import in_csv
from reports.row import Row

LISTS = ("tokens_after_block", "accuracy_by_task")  # whose median says nothing
RELATIVE = ("peak_counted_bytes", "peak_allocated_bytes", "step_flop", "step_seconds")


def write(comparisons: list[Comparison], path: Path) -> None:
    """Write the file; what was not measured is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        heading: list[str] = []
        for comparison in comparisons:
            for row in comparison.rows:
                line = _line(comparison, row)
                if not heading:
                    heading = list(line)
                    lines.writerow(heading)
                lines.writerow([in_csv(value) for value in line.values()])


def _by_task(row: Row) -> str:
    """Return the mean over seeds of each task's accuracy, ``digits=0.9; pack:a.npz=0.5``."""
    found = row.by_task().items()
    return "; ".join(f"{task}={fmean(read.values())}" for task, read in found if read)


@functools.lru_cache(maxsize=256)
def _settings(workload: Workload) -> dict[str, object]:
    several = workload.multitask.model_dump_json() if workload.multitask else ""
    return workload.model_dump() | {"multitask": several}


def _line(comparison: Comparison, row: Row) -> dict[str, object]:
    line: dict[str, object] = {"row": row.label, "method": row.spec.method}
    line["outcome"] = "; ".join(row.failures()) or "completed"
    line |= _settings(row.spec.workload)
    spec = row.trained()
    line["learning_rate"] = spec.training.learning_rate if spec and spec.training else None
    line["seeds"] = len(row.accuracies())
    line |= {metric: row.value(metric) for metric in METRICS if metric not in LISTS}
    line["tokens_after_block"] = " ".join(str(count) for count in row.tokens())
    line["accuracy_by_task"] = _by_task(row)
    for metric in RELATIVE:
        line[f"{metric}_over_{REFERENCE}"] = comparison.ratio(row, metric)
        line[f"{metric}_over_{BASELINE}"] = comparison.ratio(row, metric, BASELINE)
    return line
