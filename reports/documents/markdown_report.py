"""The report as Markdown."""

from collections.abc import Sequence
from pathlib import Path

from bsrbench.harness.files import write_whole
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.excerpt import IN_MARKDOWN, excerpt, left_out, share
from bsrbench.reports.documents import report_tables
from bsrbench.reports.figures.all_figures import Figure
from bsrbench.reports.wording import notes
from bsrbench.reports.wording.safe_text import on_one_line

ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#&$~"})
SIGNS = ("+", "-")  # begin a list inside a list


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
    parts += lines("Where the numbers were made", notes.provenance(comparisons))
    write_whole(path, "\n\n".join(parts) + "\n")


def _comparison(whole: Comparison, most: int) -> list[str]:
    comparison = excerpt(whole, most)
    titles, rows = report_tables.cells(comparison)
    for row, column in report_tables.best(comparison, report_tables.shown(comparison)):
        rows[row][column] = f"**{rows[row][column]}**"
    parts = [*map(escape, notes.summary(whole)), table_of(titles, rows)]
    parts += left_out(whole, comparison)
    parts += lines("Did not complete", notes.failures(comparison))
    parts += lines("To know about the numbers", notes.doubts(comparison))
    for title, titles, rows in report_tables.sections(comparison):
        parts += [f"### {escape(title)}", table_of(titles, rows)]
    parts += lines("Not measured", notes.absences(comparison))
    titles, tried = report_tables.tries(comparison)
    if tried:
        parts += ["### Learning rates tried", table_of(titles, tried)]
    return parts + lines("Settings in which rows differ", comparison.differences())


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return on_one_line(text.translate(ESCAPES))


def table_of(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table, numbers to the right; ``**`` around a cell stays."""
    drawn = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    body = [[_cell(cell) if row is not drawn[1] else cell for cell in row] for row in drawn]
    return "\n".join(f"| {' | '.join(row)} |" for row in body)


def _cell(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**")
    return f"**{escape(text.strip('*'))}**" if bold else escape(text)


def lines(title: str, said: Sequence[str]) -> list[str]:
    """Return a heading and a list; nothing where there is nothing to list."""
    if not said:
        return []
    return [f"### {title}", "\n".join(f"- {_begun(escape(line))}" for line in said)]


def _begun(line: str) -> str:
    return f"\\{line}" if line.startswith(SIGNS) else line
