"""Make every document of a results folder from its records."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import BadInput
from harness.record import TrialRecord
from reports import csv, figures, html, latex, markdown
from reports.comparison import Comparison, Details, compare

MANY_ROWS = 2000


def write(
    records: list[TrialRecord], folder: Path, title: str, details: Details
) -> list[Comparison]:
    """Write ``report.md``, ``.html`` and ``.tex``, ``comparison.csv`` and figures into a folder.

    Args:
        records: what to report on.
        folder: where the documents go.
        title: of the documents.
        details: gives a record's sidecar by its key.

    Raises:
        BadInput: there is no record to report on, or the folder cannot be written.
    """
    comparisons = compare(records, details)
    if not comparisons:
        raise BadInput(f"no results in {folder}: expected records/*.json made by 'bsrbench run'")
    try:
        with _beside(comparisons, lambda: _for_machines_and_browsers(comparisons, folder, title)):
            drawn = figures.write_all(comparisons, folder)
            markdown.write(comparisons, drawn, title, folder / "report.md")
            latex.write(comparisons, title, folder / "report.tex")
    except OSError as error:
        raise BadInput(f"cannot write the report into {folder}: {error.strerror}") from error
    return comparisons


def _for_machines_and_browsers(comparisons: list[Comparison], folder: Path, title: str) -> None:
    csv.write(comparisons, folder / "comparison.csv")
    html.write(comparisons, title, folder / "report.html")


@contextmanager
def _beside(comparisons: list[Comparison], write_some: Callable[[], None]) -> Iterator[None]:
    """Write some documents in a process beside this one if there are very many rows, else here."""
    rows = sum(len(comparison.rows) for comparison in comparisons)
    # Where torch has been loaded its threads may run, which a fork would lose.
    if rows < MANY_ROWS or "torch" in sys.modules:
        yield
        write_some()
        return
    beside = multiprocessing.get_context("fork").Process(target=write_some)
    beside.start()
    yield
    beside.join()
    if beside.exitcode:
        write_some()  # so that the error is seen here
