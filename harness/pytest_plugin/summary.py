"""The summary table of all measured tests, as lines of text."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bsrbench.harness.pytest_plugin.result import EXACT, STEP_SECONDS, Result, number_or_none
from bsrbench.harness.pytest_plugin.summary_row import SummaryRow
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.pass_readings import Measured
from bsrbench.reports import units
from bsrbench.reports.compare.statistics import median_and_quartiles

# The exact numbers whose ratios the main table of a report shows, with their headings there.
EXACT_COLUMNS = {
    metric: column.title
    for metric in EXACT
    if (column := METRICS[metric].column("main")) is not None and column.ratio
}
TITLES = (
    "method",
    *(title for column in EXACT_COLUMNS.values() for title in (column, "× baseline")),
    *("step ms [quartiles]", "× baseline [quartiles]", "baseline"),
)
NAMES = ("method", "baseline")
LONGEST = 48  # characters of a name; the JSON has the whole name
UNLIMITED = 10_000  # columns; the terminal wraps long lines


def row_of(test: str, result: Result, failures: Sequence[str]) -> SummaryRow:
    """Return a test's row."""
    label = result.spec.label()
    beside = result.baseline
    numbers = [
        text
        for metric in EXACT_COLUMNS
        for text in (
            units.of_metric(metric)(number_or_none(result.value, metric)),
            units.ratio(number_or_none(result.ratio, metric)),
        )
    ]
    times = [
        _spread(result.measurements.get(STEP_SECONDS), units.milliseconds, units.milliseconds),
        _spread(result.step_ratios(), units.ratio, units.plain),
    ]
    name = units.NOTHING if beside is None else beside.spec.label()
    notes = [f"{label}: {note}" for note in result.notes]
    if beside is not None:
        notes += [f"{name}: {note}" for note in beside.notes]
    return SummaryRow(test, [label, *numbers, *times, name], notes, list(failures))


def _spread(samples: Measured, unit: units.DisplayUnit, inside: units.DisplayUnit) -> str:
    """Return median and quartiles of samples."""
    spread = median_and_quartiles(samples) if isinstance(samples, Sequence) else None
    if spread is None:
        return units.NOTHING
    return f"{unit(spread.centre)} [{inside(spread.low)}, {inside(spread.high)}]"


def table(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the rows' table, line by line."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in TITLES:
        # As Text, because rich would read brackets in a str as markup.
        drawn.add_column(
            Text(title),
            justify="left" if title in NAMES else "right",
            max_width=LONGEST if title in NAMES else None,
            overflow="ellipsis",
            no_wrap=True,
        )
    for row in rows:
        drawn.add_row(*map(Text, row.cells))
    console = Console(width=UNLIMITED, color_system=None)
    with console.capture() as captured:
        console.print(drawn)
    return [line.rstrip() for line in captured.get().splitlines() if line.strip()]


def notes(rows: Sequence[SummaryRow]) -> list[str]:
    """Return the notes on the numbers, each once."""
    return list(dict.fromkeys(note for row in rows for note in row.notes))
