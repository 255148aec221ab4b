"""The comparison as comma-separated values: one line per row, one column per metric, unrounded.

A ratio of times is followed by the two ends of its 95 % interval, in columns of their own.
"""

import csv
import functools
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

import orjson

from bsrbench.harness.files import write_whole
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.ratio_interval import Ratio
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.optimizer_rows import (
    REFERENCE_OPTIMIZER,
    ratio_of_values,
    with_references,
)
from bsrbench.reports.compare.repeated_timings import has_rounds
from bsrbench.reports.compare.seed_pairing import tested
from bsrbench.reports.compare.time_ratios import ratio_of_times
from bsrbench.reports.wording.safe_text import in_csv

RELATIVE = tuple(metric for metric in METRICS if METRICS[metric].csv_ratio)
COMPARED = (REFERENCE, BASELINE)
OVER = (*COMPARED, REFERENCE_OPTIMIZER)  # the last is the same row with this optimizer

# Lists whose median has no meaning; their columns follow the numbers.
LISTS = tuple(metric for metric in METRICS if METRICS[metric].per in {"block", "task"})
NUMBERS = tuple(metric for metric in METRICS if metric not in LISTS)
HEADING = (
    *("row", "method", "outcome"),
    *(name for name in Workload.model_fields),
    *("learning_rate", "seeds", "tested_seeds"),
    *NUMBERS,
    *LISTS,
    *(
        f"{metric}_over_{name}{end}"
        for metric in RELATIVE
        for name in OVER
        for end in ("", *(("_low", "_high") if has_rounds(metric) else ()))
    ),
)


def write(comparisons: list[Comparison], path: Path) -> None:
    """Write the file; a missing value is an empty cell."""
    lines = [line for comparison in comparisons for line in _lines(comparison)]
    write_whole(path, "".join(f"{line}\n" for line in (_texts(HEADING), *lines)))


def _lines(comparison: Comparison) -> Iterator[str]:
    references = {id(row): reference for row, reference in with_references(comparison)}
    for row in comparison.rows:
        yield _line(comparison, row, references.get(id(row)))


def _line(comparison: Comparison, row: ComparisonRow, reference: ComparisonRow | None) -> str:
    spec = row.trained()
    rate = spec.training.learning_rate if spec and spec.training else None
    ratios = [
        number
        for metric in RELATIVE
        for numbers in (
            *(_over(comparison, row, metric, to) for to in COMPARED),
            _over_reference(row, metric, reference),
        )
        for number in numbers
    ]
    parts = (
        _texts((row.label, row.spec.method, "; ".join(row.failures()) or "completed")),
        _settings(row.spec.workload),
        _numbers([rate, len(row.accuracies())]),
        _spaced(tested(row)),
        _numbers(list(map(row.value, NUMBERS))),
        _texts(_list(row, metric) for metric in LISTS),
        _numbers(ratios),
    )
    return ",".join(parts)


def _over(
    comparison: Comparison, row: ComparisonRow, metric: str, to: str
) -> Iterator[float | None]:
    """Yield a ratio; for times also the ends of its interval."""
    if not has_rounds(metric):
        yield comparison.ratio(row, metric, to)
        return
    yield from _ends(comparison.time_ratio(row, metric, to))


def _over_reference(
    row: ComparisonRow, metric: str, reference: ComparisonRow | None
) -> Iterator[float | None]:
    """Yield a ratio to the same row with the reference optimizer, as ``_over`` does."""
    if not has_rounds(metric):
        yield ratio_of_values(metric, row, reference) if reference else None
        return
    yield from _ends(ratio_of_times(metric, row, reference) if reference else None)


def _ends(ratio: Ratio | None) -> tuple[float | None, float | None, float | None]:
    return (ratio.centre, ratio.low, ratio.high) if ratio else (None, None, None)


def _spaced(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


def _texts(cells: Iterable[object]) -> str:
    """Return cells that may need quotes."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(in_csv, cells))  # adds needed quotes
    return line.getvalue()[:-1]


def _numbers(cells: Sequence[float | None]) -> str:
    """Return cells of numbers; this is six times as fast as ``_texts``."""
    return orjson.dumps(cells).decode()[1:-1].replace("null", "")


def _list(row: ComparisonRow, metric: str) -> str:
    """Return a list as text: one number per block or per task."""
    by_block = METRICS[metric].per == "block"
    return _spaced(row.by_block(metric)) if by_block else _by_task(row)


def _by_task(row: ComparisonRow) -> str:
    """Return the mean accuracy of each task over seeds: ``digits=0.9; pack:a.npz=0.5``."""
    accuracies = row.by_task().items()
    return "; ".join(f"{task}={fmean(read.values())}" for task, read in accuracies if read)


@functools.lru_cache(maxsize=256)
def _settings(workload: Workload) -> str:
    several = workload.multitask.model_dump_json() if workload.multitask else ""
    return _texts((workload.model_dump() | {"multitask": several}).values())
