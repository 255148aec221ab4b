"""Text, tables and lists as Markdown shows them."""

from collections.abc import Sequence

from bsrbench.reports.wording.safe_text import on_one_line

ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#&$~"})
SIGNS = ("+", "-")  # begin a list inside a list


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
