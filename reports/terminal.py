"""The comparison as a table on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import table, words
from reports.comparison import BASELINE, Comparison
from reports.excerpt import ON_TERMINAL, excerpt, left_out, share

UNLIMITED = 10_000  # columns; rich measures within a width


def show(comparisons: list[Comparison], console: Console) -> None:
    """Print each comparison: its table, what failed, what must be known about the numbers.

    Where the whole table does not fit, the columns that matter most are shown without spreads.
    """
    for comparison in comparisons:
        if len(comparisons) > 1:
            console.print(comparison.title(), markup=False, highlight=False, style="bold")
        _show(comparison, console, share(ON_TERMINAL, comparisons))


def _show(whole: Comparison, console: Console, most: int) -> None:
    comparison = excerpt(whole, most)
    drawn = _draw(*table.cells(comparison), table.best(comparison, table.shown(comparison)))
    unlimited = console.options.update(max_width=UNLIMITED)
    if console.measure(drawn, options=unlimited).maximum > console.width:
        best = table.best(comparison, table.short_columns(comparison))
        drawn = _draw(*table.short_cells(comparison), best)
    console.print(drawn)
    said = [*left_out(whole, comparison), *words.failures(comparison), *words.doubts(comparison)]
    for line in said:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _draw(titles: list[str], rows: list[list[str]], best: set[tuple[int, int]]) -> Table:
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=0)
    for index, title in enumerate(titles):
        heading = Text(title.replace(" ", "\n", 1))
        drawn.add_column(heading, justify="left" if index == 0 else "right", no_wrap=True)
    for place, row in enumerate(rows):
        style = "bold" if row[0] == BASELINE else ""
        cells = [
            Text(cell, style=f"{style} green" if (place, column) in best else style)
            for column, cell in enumerate(row)
        ]
        drawn.add_row(*cells)
    return drawn
