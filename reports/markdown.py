"""The report as Markdown."""

from pathlib import Path

from reports import table, words
from reports.comparison import Comparison
from reports.figures import Figure

SPECIAL = "\\`*_{}[]<>|#"


def write(comparisons: list[Comparison], figures: list[Figure], title: str, path: Path) -> None:
    """Write the file; figures are linked by their names."""
    parts = [f"# {escape(title)}"]
    for comparison in comparisons:
        if len(comparisons) > 1:
            parts.append(f"## {escape(comparison.title())}")
        parts += _comparison(comparison)
    parts += [f"![{figure.caption}]({figure.name}.png)\n\n*{figure.caption}*" for figure in figures]
    parts.append("## Definitions")
    parts += [f"- `{metric}`: {escape(text)}" for metric, text in words.definitions()]
    parts += _lines("Where the numbers were made", words.provenance(comparisons))
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _comparison(comparison: Comparison) -> list[str]:
    parts = [*map(escape, words.summary(comparison)), table_of(*table.cells(comparison))]
    parts += _lines("Did not complete", words.failures(comparison))
    parts += _lines("To know about the numbers", words.doubts(comparison))
    for title, titles, rows in table.sections(comparison):
        parts += [f"### {escape(title)}", table_of(titles, rows)]
    parts += _lines("Not measured", words.absences(comparison))
    titles, tried = table.tries(comparison)
    if tried:
        parts += ["### Learning rates tried", table_of(titles, tried)]
    return parts + _lines("Settings in which rows differ", comparison.differences())


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    marked = "".join(f"\\{c}" if c in SPECIAL else c for c in text)
    return " ".join(marked.split())


def table_of(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table, numbers to the right; ``**`` around a cell stays."""
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    body = [[_cell(cell) if row is not lines[1] else cell for cell in row] for row in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in body)


def _cell(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**")
    return f"**{escape(text.strip('*'))}**" if bold else escape(text)


def _lines(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    return [f"### {title}", "\n".join(f"- {escape(line)}" for line in lines)]
