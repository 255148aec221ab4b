"""The comparison as a table on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsrbench.reports.compare.anchors import BASELINE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.excerpt import ON_TERMINAL, excerpt, left_out, share
from bsrbench.reports.wording import notes, optimizer_table, report_tables
from bsrbench.reports.wording.columns import Column
from bsrbench.reports.wording.safe_text import IN_TABLE, on_one_line, shortened_apart
from bsrbench.reports.wording.terminal_columns import REACH, widest_first
from bsrbench.reports.wording.timing_notes import coverage

UNLIMITED = 10_000  # characters; rich measures a table within this width
LEAST_NAME = 12  # smallest width of the column of names, in characters
HOW_FAR = f"{REACH}: distance to the farther end of the interval, in percent of the ratio"
BEST, MARKED = "* best", "† baseline"  # files and logs have no colours


def show(comparisons: list[Comparison], console: Console) -> None:
    """Print each comparison: its table, the failures, the notes about the numbers.

    If the table does not fit, only the most important columns are shown, without spreads of
    values. Ratios of times keep their intervals at every width.
    """
    for comparison in comparisons:
        if len(comparisons) > 1:
            _say(console, comparison.title(), "bold")
        _show(comparison, console, share(ON_TERMINAL, comparisons))


def _show(whole: Comparison, console: Console, most: int) -> None:
    comparison = excerpt(whole, most)
    drawn, reaches = _fitting(comparison, console)
    console.print(drawn)
    notes_below = [
        *([HOW_FAR] if reaches else []),
        *coverage(comparison),
        *left_out(whole, comparison),
        *notes.failures(comparison),
        *notes.doubts(comparison),
    ]
    marks = BEST if comparison.place(BASELINE) is None else f"{BEST}; {MARKED}"
    for line in (marks, *notes_below):
        _say(console, line)
    if optimizers := optimizer_table.short_section(comparison):
        _show_more(console, *optimizers)


def _show_more(console: Console, title: str, titles: list[str], rows: list[list[str]]) -> None:
    """Print a table without marks below the notes."""
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    drawn.add_column(_heading(titles[0]), overflow="fold", min_width=LEAST_NAME)
    for heading in titles[1:]:
        drawn.add_column(Text(_heading(heading)), justify="right", no_wrap=True)
    names = shortened_apart([name for name, *_ in rows], IN_TABLE)
    for name, (_, *cells) in zip(names, rows, strict=True):
        drawn.add_row(Text(name), *map(Text, cells))
    _say(console, title, "bold")
    console.print(drawn)


def _fitting(comparison: Comparison, console: Console) -> tuple[Table, bool]:
    """Return the widest table that fits; if none does, the narrowest, with folded names.

    Also return whether the table shows how far intervals reach, instead of their ends.
    """
    choices = list(widest_first(comparison))
    for columns in choices:
        if _least_width(*report_tables.cells_of(comparison, columns)) > console.width:
            continue
        drawn = _draw(comparison, columns)
        if _overflow(drawn, console) <= 0:
            return drawn, _reaches(columns)
    narrowest = choices[-1]
    overflow = _overflow(_draw(comparison, narrowest), console)
    longest = min(IN_TABLE, max(len(row.label) for row in comparison.rows))
    folded = _draw(comparison, narrowest, max(LEAST_NAME, longest - overflow))
    return folded, _reaches(narrowest)


def _reaches(columns: tuple[Column, ...]) -> bool:
    return any(column.title == REACH for column in columns)


def _least_width(titles: list[str], rows: list[list[str]]) -> int:
    """Return the width of a table without its names; this is much faster than drawing it."""
    headed = zip(titles, *rows, strict=True)
    columns = [[*_heading(title).split("\n"), *cells] for title, *cells in headed]
    return sum(1 + max(map(cell_len, column)) for column in columns[1:])


def _heading(title: str) -> str:
    return title.replace(" ", "\n", 1)


def _overflow(drawn: Table, console: Console) -> int:
    """Return the number of characters by which a table is wider than the terminal."""
    unlimited = console.options.update(max_width=UNLIMITED)
    return console.measure(drawn, options=unlimited).maximum - console.width


def _draw(comparison: Comparison, columns: tuple[Column, ...], most: int = IN_TABLE + 2) -> Table:
    """Return the table; names longer than ``most`` characters are folded."""
    titles, rows = report_tables.cells_of(comparison, columns)
    best, baseline = report_tables.best(comparison, columns), comparison.place(BASELINE)
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    for index, title in enumerate(titles):
        heading = Text(_heading(title))
        if index == 0:
            drawn.add_column(heading, overflow="fold", max_width=most)
        else:
            drawn.add_column(heading, justify="right", no_wrap=True)
    names = shortened_apart([name for name, *_ in rows], IN_TABLE)
    for place, (name, (_, *cells)) in enumerate(zip(names, rows, strict=True)):
        of_baseline = place == baseline
        style = "bold" if of_baseline else ""
        shown = [Text(name + (" †" if of_baseline else ""), style)]
        for column, cell in enumerate(cells, start=1):
            first = (place, column) in best
            shown.append(Text(f"*{cell}" if first else cell, f"{style} green" if first else style))
        drawn.add_row(*shown)
    return drawn


def _say(console: Console, text: str, style: str = "") -> None:
    line = Text(on_one_line(text), style)
    console.print(line, soft_wrap=True, highlight=False)
