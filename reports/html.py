"""The report as one self-contained HTML file."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import table, words
from reports.comparison import BASELINE, Comparison

FOLDER = Path(__file__).parent


def write(comparisons: list[Comparison], title: str, path: Path) -> None:
    """Write the file; everything it shows is inside it."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined
    )
    text = templates.get_template("report.html.j2").render(
        title=title,
        baseline=BASELINE,
        comparisons=[_parts(comparison) for comparison in comparisons],
        figures=[],
        definitions=words.definitions(),
        provenance=words.provenance(comparisons),
    )
    path.write_text(text, encoding="utf-8")


def _parts(comparison: Comparison) -> dict[str, Any]:
    """Return what the template shows of one comparison."""
    return {
        "title": comparison.title(),
        "summary": words.summary(comparison),
        "table": ("Comparison", *table.cells(comparison)),
        "failures": words.failures(comparison),
        "doubts": words.doubts(comparison),
        "sections": table.sections(comparison),
        "absences": words.absences(comparison),
        "tries": ("Learning rates tried", *table.tries(comparison)),
        "differences": comparison.differences(),
    }
