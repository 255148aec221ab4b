"""The comparison as LaTeX: tables for a paper, drawn with booktabs."""

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from bsrbench.harness.files import write_whole
from bsrbench.harness.visible_text import visible
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import BASELINE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.excerpt import IN_LATEX, excerpt, left_out, share
from bsrbench.reports.wording import limits, notes, optimizer_table, report_tables
from bsrbench.reports.wording.columns import paper_columns
from bsrbench.reports.wording.safe_text import shortened
from bsrbench.reports.wording.timing_notes import coverage, timed_apart

HEADING = (
    "% Made by bsrbench. In the preamble: \\usepackage[T1]{fontenc} \\usepackage{booktabs} "
    "\\usepackage{graphicx}\n"
)
MINUS = re.compile(r"(?<![\w-])-(?=\d)")
# A table wider than the text column is scaled to its width; other tables keep their size.
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_\allowbreak{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"$\sim$",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "×": r"$\times$",
    "–": "--",
    "†": r"$\dagger$",
}
MOST = 300  # characters of a cell: TeX has no lengths above 5.7 m
LAST_LATIN = 0xFF  # LaTeX without packages has no glyphs for later characters


def write(comparisons: list[Comparison], title: str, path: Path) -> None:
    """Write one table per comparison; best values bold, the baseline marked with a dagger."""
    most = share(IN_LATEX, comparisons)
    name = f"tab:{re.sub('[^A-Za-z0-9]+', '-', title).strip('-')}"
    labels = [f"{name}-{n + 1}" for n in range(len(comparisons))] if comparisons[1:] else [name]
    drawn = [
        _comparison(comparison, title, most, label)
        for comparison, label in zip(comparisons, labels, strict=False)
    ]
    write_whole(path, HEADING + "\n".join(drawn))


def _comparison(whole: Comparison, title: str, most: int, label: str) -> str:
    comparison = excerpt(whole, most)
    titles, rows = report_tables.paper_cells(comparison)
    best = report_tables.best(comparison, paper_columns(comparison))
    baseline = comparison.place(BASELINE)
    marked = [
        [
            _bold(cell) if (row, column) in best else _cell(cell)
            for column, cell in enumerate(_named(cells) if row == baseline else cells)
        ]
        for row, cells in enumerate(rows)
    ]
    caption = f"{title}. {comparison.title()}. {notes.CAPTION}"
    lines = [
        *left_out(whole, comparison),
        *notes.failures(comparison),
        *limits.limits(comparison),
        *coverage(comparison),
        *timed_apart(comparison),
    ]
    drawn = _float([_cell(cell) for cell in titles], marked, caption, lines, label)
    more = [
        table_of(titles, rows, f"{title}. {about}. {comparison.title()}.")
        for about, titles, rows in (
            *report_tables.tasks(comparison),
            *optimizer_table.sections(comparison),
        )
    ]
    return "\n".join([drawn, *more])


def _named(cells: list[str]) -> list[str]:
    return [f"{cells[0]} †", *cells[1:]]


def table_of(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Return a floating table whose cells are plain text."""
    return _float(
        [_cell(cell) for cell in titles], [[_cell(cell) for cell in row] for row in rows], caption
    )


def _float(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    lines: Sequence[str] = (),
    label: str = "",
) -> str:
    """Return a floating table whose cells are LaTeX and whose caption is plain text."""
    drawn = [
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{escape(caption)}}}",
        *([rf"\label{{{label}}}"] if label else []),
        FITTED,
        rf"\begin{{tabular}}{{l{'r' * (len(titles) - 1)}}}",
        r"\toprule",
        f"{' & '.join(titles)} \\\\",
        r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(rf"\par\footnotesize {escape(line)}" for line in lines),
        r"\end{table}",
    ]
    return "\n".join(drawn) + "\n"


def _cell(text: str) -> str:
    return escape(shortened(text, MOST))


def _bold(text: str) -> str:
    return rf"\textbf{{{_cell(text)}}}" if text != units.NOTHING else _cell(text)


def escape(text: str) -> str:
    """Return text on one line that LaTeX prints literally; a missing glyph becomes its code."""
    line = "".join(_escaped(character) for character in " ".join(visible(text).split()))
    return MINUS.sub("$-$", line)


def _escaped(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if unicodedata.category(character).startswith("C"):  # control characters and the like
        return ""
    if ord(character) > LAST_LATIN:
        return rf"\texttt{{U+{ord(character):04X}}}"
    return character
