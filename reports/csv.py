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


NUMBERS = tuple(metric for metric in METRICS if metric not in LISTS)
HEADING = (
    *("row", "method", "outcome"),
    *(name for name in Workload.model_fields),
    *("learning_rate", "seeds"),
    *NUMBERS,
    *LISTS,
    *(f"{metric}_over_{method}" for metric in RELATIVE for method in (REFERENCE, BASELINE)),
)


def write(comparisons: list[Comparison], path: Path) -> None:
    """Write the file; what was not measured is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(HEADING)
        for comparison in comparisons:
            lines.writerows(_cells(comparison, row) for row in comparison.rows)


def _cells(comparison: Comparison, row: Row) -> list[object]:
    spec = row.trained()
    return [
        in_csv(row.label),
        in_csv(row.spec.method),
        in_csv("; ".join(row.failures()) or "completed"),
        *_settings(row.spec.workload),
        spec.training.learning_rate if spec and spec.training else None,
        len(row.accuracies()),
        *map(row.value, NUMBERS),
        " ".join(str(count) for count in row.tokens()),
        in_csv(_by_task(row)),
        *(comparison.ratio(row, metric, to) for metric in RELATIVE for to in (REFERENCE, BASELINE)),
    ]


def _by_task(row: Row) -> str:
    """Return the mean over seeds of each task's accuracy, ``digits=0.9; pack:a.npz=0.5``."""
    found = row.by_task().items()
    return "; ".join(f"{task}={fmean(read.values())}" for task, read in found if read)


@functools.lru_cache(maxsize=256)
def _settings(workload: Workload) -> list[object]:
    several = workload.multitask.model_dump_json() if workload.multitask else ""
    return [in_csv(value) for value in (workload.model_dump() | {"multitask": several}).values()]
