"""How wide the intervals of times in results folders are: half widths of the ratios to 'full'.

    python -m tests.microbench.interval_widths results/*

The half width is the upper end of the 95 % interval divided by the ratio, minus 1.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from bsrbench.harness.records.store import RECORDS, gather
from bsrbench.reports.compare.anchors import REFERENCE
from bsrbench.reports.compare.comparison import compare

METRICS = ("step_seconds", "step_cpu_seconds", "evaluation_seconds")
NARROW = (0.03, 0.05, 0.1)  # half widths


def half_widths(folder: Path, metric: str) -> Iterator[tuple[str, float]]:
    """Yield the label of each row with an interval, and the half width of the interval."""
    pool = gather([folder])
    for comparison in compare(pool.records, pool.detail):
        for row in comparison.rows:
            ratio = comparison.time_ratio(row, metric)
            if row is not comparison.find(REFERENCE) and ratio and ratio.high is not None:
                yield row.label, ratio.high / ratio.centre - 1


def summary(widths: list[float]) -> str:
    """Return number, median, extremes and the number of narrow intervals as text."""
    narrow = ", ".join(f"{sum(w <= most for w in widths)} within {most:.0%}" for most in NARROW)
    spread = f"{min(widths):.1%} to {max(widths):.1%}"
    return f"{len(widths):3} ratios, half width {median(widths):6.1%} ({spread}); {narrow}"


def lines(folders: Iterable[Path]) -> Iterator[str]:
    """Yield a line per folder and metric that has intervals, then a line per metric for all."""
    stored = [folder for folder in folders if (folder / RECORDS).is_dir()]
    for metric in METRICS:
        every: list[float] = []
        for folder in stored:
            widths = [width for _, width in half_widths(folder, metric)]
            every += widths
            if widths:
                yield f"{metric:18} {folder.name:18} {summary(widths)}"
        if every:
            yield f"{metric:18} {'all':18} {summary(every)}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lines(map(Path, sys.argv[1:])))
