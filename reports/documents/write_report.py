"""Write every document of a results folder from its records."""

import importlib
import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bsrbench.harness.errors import BadInput
from bsrbench.harness.records.record_files import no_collection
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.visible_text import visible
from bsrbench.reports.compare.comparison import Comparison, Details, compare
from bsrbench.reports.documents import csv_table, html_report, latex_tables, markdown_report
from bsrbench.reports.figures import all_figures

MANY_ROWS, MANY_RECORDS = 2000, 10_000
Writer = Callable[[], None]


def write(
    records: list[TrialRecord],
    folder: Path,
    title: str,
    details: Details,
    meanwhile: Callable[[list[Comparison]], None] = lambda _: None,
) -> list[Comparison]:
    """Write ``report.md``, ``.html`` and ``.tex``, ``comparison.csv`` and figures into a folder.

    Args:
        records: the records to report.
        folder: the folder of the documents.
        title: the title of the documents.
        details: returns a record's sidecar by its key.
        meanwhile: called with the comparisons before all documents are written.

    Raises:
        BadInput: there is no record to report on, or the folder cannot be written.
    """
    title = visible(title)
    with no_collection() if len(records) >= MANY_RECORDS else nullcontext():
        comparisons = compare(records, details)
        if not comparisons:
            raise BadInput(
                f"no results in {folder}: expected records/*.json made by 'bsrbench run'"
            )
        beside = (
            lambda: csv_table.write(comparisons, folder / "comparison.csv"),
            lambda: html_report.write(comparisons, title, folder / "report.html"),
        )
        with _beside(comparisons, [_explained(writer, folder) for writer in beside]):
            _explained(lambda: _write_here(comparisons, folder, title), folder)()
            meanwhile(comparisons)
    return comparisons


def _write_here(comparisons: list[Comparison], folder: Path, title: str) -> None:
    drawn = all_figures.write_all(comparisons, folder)
    markdown_report.write(comparisons, drawn, title, folder / "report.md")
    latex_tables.write(comparisons, title, folder / "report.tex")


def _explained(writer: Writer, folder: Path) -> Writer:
    """Return a writer whose error message names the folder."""

    def write_or_explain() -> None:
        try:
            writer()
        except OSError as error:
            raise BadInput(f"cannot write the report into {folder}: {error.strerror}") from error

    return write_or_explain


@contextmanager
def _beside(comparisons: list[Comparison], writers: Sequence[Writer]) -> Iterator[None]:
    """Run the writers, in separate processes if there are very many rows."""
    rows = sum(len(comparison.rows) for comparison in comparisons)
    # If torch is loaded, its threads may be running. A forked process would not have them.
    if rows < MANY_ROWS or "torch" in sys.modules:
        yield
        for writer in writers:
            writer()
        return
    importlib.import_module("scipy.special")  # the processes share modules and results
    for comparison in comparisons:
        comparison.pareto_front()
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_silently, args=(writer,)) for writer in writers]
    for process in processes:
        process.start()
    yield
    for process, writer in zip(processes, writers, strict=True):
        process.join()
        if process.exitcode:
            writer()  # run it again, so that this process raises its error


def _silently(writer: Writer) -> None:
    try:
        writer()
    except BadInput:
        sys.exit(1)
