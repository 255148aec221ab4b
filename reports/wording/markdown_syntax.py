"""Text, tables and lists in Markdown syntax."""

from collections.abc import Sequence

from bsrbench.reports.wording.safe_text import on_one_line

ESCAPES = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#&$~"})
SIGNS = ("+", "-")  # at the beginning of a line they make a nested list


def escape(text: str) -> str:
    """Return text on one line that Markdown shows literally."""
    return on_one_line(text.translate(ESCAPES))


def table_of(titles: list[str], rows: list[list[str]]) -> str:
    """Return a table with right-aligned numbers; bold cells (``**``) stay bold."""
    drawn = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    body = [[_cell(cell) if row is not drawn[1] else cell for cell in row] for row in drawn]
    return "\n".join(f"| {' | '.join(row)} |" for row in body)


def _cell(text: str) -> str:
    bold = text.startswith("**") and text.endswith("**")
    return f"**{escape(text.strip('*'))}**" if bold else escape(text)


def lines(title: str, texts: Sequence[str]) -> list[str]:
    """Return a heading and a Markdown list; an empty result if there are no lines."""
    if not texts:
        return []
    return [f"### {title}", "\n".join(f"- {_begun(escape(line))}" for line in texts)]


def _begun(line: str) -> str:
    return f"\\{line}" if line.startswith(SIGNS) else line
