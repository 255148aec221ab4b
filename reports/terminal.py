"""The comparison as a table on a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reports import table, words
from reports.comparison import BASELINE, Comparison

NARROW_COLUMNS = 140


def show(comparison: Comparison, console: Console) -> None:
    """Print the table, what failed, and what must be known about the numbers."""
    titles, rows = table.cells(comparison, wide=console.width >= NARROW_COLUMNS)
    drawn = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for index, title in enumerate(titles):
        drawn.add_column(Text(title), justify="left" if index == 0 else "right")
    for row in rows:
        style = "bold" if row[0] == BASELINE else ""
        drawn.add_row(*(Text(cell, style=style) for cell in row))
    console.print(drawn)
    for line in [*words.failures(comparison), *words.doubts(comparison)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
