"""Make every document of a results folder from its records."""

from pathlib import Path

from harness.errors import BadInput
from harness.record import TrialRecord
from reports import csv, figures, html, latex, markdown
from reports.comparison import Comparison, Details, compare


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
        drawn = figures.write_all(comparisons, folder)
        markdown.write(comparisons, drawn, title, folder / "report.md")
        html.write(comparisons, title, folder / "report.html")
        latex.write(comparisons, title, folder / "report.tex")
        csv.write(comparisons, folder / "comparison.csv")
    except OSError as error:
        raise BadInput(f"cannot write the report into {folder}: {error.strerror}") from error
    return comparisons
