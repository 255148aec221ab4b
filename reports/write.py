"""Make every document of a results folder from its records."""

from pathlib import Path

from harness.errors import BadInput
from harness.record import TrialRecord
from reports import csv, figures, html, markdown
from reports.comparison import Comparison, compare


def write(records: list[TrialRecord], folder: Path, title: str) -> Comparison:
    """Write ``report.md``, ``report.html``, ``comparison.csv`` and the figures into a folder.

    Raises:
        BadInput: there is no record to report on, or the folder cannot be written.
    """
    comparison = compare(records)
    if not comparison.rows:
        raise BadInput(f"no results in {folder}: expected records/*.json made by 'bsrbench run'")
    try:
        drawn = figures.write_all(comparison, folder)
        markdown.write(comparison, drawn, title, folder / "report.md")
        html.write(comparison, drawn, title, folder / "report.html")
        csv.write(comparison, folder / "comparison.csv")
    except OSError as error:
        raise BadInput(f"cannot write the report into {folder}: {error.strerror}") from error
    return comparison
