"""The report as Markdown."""

from pathlib import Path

from bsrbench.harness.files import write_whole
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.excerpt import IN_MARKDOWN, excerpt, left_out, share
from bsrbench.reports.figures.all_figures import Figure
from bsrbench.reports.wording import notes, report_tables
from bsrbench.reports.wording.markdown_syntax import escape, lines, table_of


def write(comparisons: list[Comparison], figures: list[Figure], title: str, path: Path) -> None:
    """Write the file; figures are linked by their names."""
    parts = [f"# {escape(title)}"]
    for comparison in comparisons:
        if len(comparisons) > 1:
            parts.append(f"## {escape(comparison.title())}")
        parts += _comparison(comparison, share(IN_MARKDOWN, comparisons))
    for figure in figures:
        caption = escape(figure.caption)
        parts.append(f"![{caption}]({figure.name}.png)\n\n*{caption}*")
    parts.append("## Definitions")
    parts += [f"- `{metric}`: {escape(text)}" for metric, text in notes.definitions()]
    parts += lines("Machines and versions", notes.provenance(comparisons))
    write_whole(path, "\n\n".join(parts) + "\n")


def _comparison(whole: Comparison, most: int) -> list[str]:
    comparison = excerpt(whole, most)
    titles, rows = report_tables.cells(comparison)
    for row, column in report_tables.best(comparison, report_tables.shown(comparison)):
        rows[row][column] = f"**{rows[row][column]}**"
    parts = [*map(escape, notes.summary(whole)), table_of(titles, rows)]
    parts += left_out(whole, comparison)
    parts += lines("Did not complete", notes.failures(comparison))
    parts += lines("Notes about the numbers", notes.doubts(comparison))
    for title, titles, rows in report_tables.sections(comparison):
        parts += [f"### {escape(title)}", table_of(titles, rows)]
    parts += lines("Not measured", notes.absences(comparison))
    titles, tried = report_tables.tries(comparison)
    if tried:
        parts += ["### Learning rates tried", table_of(titles, tried)]
    return parts + lines("Settings in which rows differ", comparison.differences())
