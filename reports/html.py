"""The report as one self-contained HTML file."""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports import table, words
from reports.comparison import BASELINE, Comparison
from reports.figures import Figure

FOLDER = Path(__file__).parent


def write(comparison: Comparison, figures: list[Figure], title: str, path: Path) -> None:
    """Write the file; everything it shows is inside it."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined
    )
    titles, rows = table.cells(comparison)
    tried_titles, tried = table.tries(comparison)
    text = templates.get_template("report.html.j2").render(
        title=title,
        baseline=BASELINE,
        summary=words.summary(comparison),
        titles=titles,
        rows=rows,
        failures=words.failures(comparison),
        doubts=words.doubts(comparison),
        figures=[(figure.caption, _as_url(figure.svg)) for figure in figures],
        tried_titles=tried_titles,
        tried=tried,
        differences=comparison.differences(),
        definitions=words.definitions(),
        provenance=words.provenance(comparison),
    )
    path.write_text(text, encoding="utf-8")


def _as_url(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
