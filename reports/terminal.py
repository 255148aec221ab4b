"""The comparison as a table on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import table, words
from reports.comparison import BASELINE, Comparison

UNLIMITED = 10_000  # columns; rich measures within a width


def show(comparisons: list[Comparison], console: Console) -> None:
    """Print each comparison: its table, what failed, what must be known about the numbers.

    Where the whole table does not fit, the columns that matter most are shown without spreads.
    """
    for comparison in comparisons:
        if len(comparisons) > 1:
            console.print(comparison.title(), markup=False, highlight=False, style="bold")
        _show(comparison, console)


def _show(comparison: Comparison, console: Console) -> None:
    drawn = _draw(*table.cells(comparison))
    unlimited = console.options.update(max_width=UNLIMITED)
    if console.measure(drawn, options=unlimited).maximum > console.width:
        drawn = _draw(*table.short_cells(comparison))
    console.print(drawn)
    for line in [*words.failures(comparison), *words.doubts(comparison)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _draw(titles: list[str], rows: list[list[str]]) -> Table:
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    for index, title in enumerate(titles):
        heading = Text(title.replace(" ", "\n", 1))
        drawn.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        style = "bold" if row[0] == BASELINE else ""
        drawn.add_row(*(Text(cell, style=style) for cell in row))
    return drawn
