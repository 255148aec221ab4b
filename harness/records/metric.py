"""The description of a metric: its meaning, its source and where it is shown."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]
Pass = Literal[
    "memory", "allocated", "process", "flops", "clock", "cpu_time", "estimate", "training"
]
# What a trial must have for a metric to be measured.
Need = Literal[
    "CPU",
    "uncompiled step",
    "compiled step",
    "caching allocator",
    "NVIDIA GPU",
    "several tasks",
    "experts",
    "curve",
    "test split",
    "validation split",
    "fp16",
]
Values = Literal["not negative", "signed", "share"]
# How numbers are printed: names of units in reports/units.py.
UnitName = Literal[
    "mebibytes",
    "gigaflop",
    "gigamacs",
    "milliseconds",
    "seconds",
    "joules",
    "rate",
    "millions",
    "count",
    "share",
    "plain",
    "percent",
]
TableName = Literal["main", "stand-in", "paper", "memory", "work"]
CellForm = Literal["value", "spread", "marked", "runs"]
FigureName = Literal[
    "accuracy",
    "batch",
    "memory",
    "memory-words",
    "time-flops",
    "curve-steps",
    "curve-seconds",
]
JudgementKind = Literal["by seed", "in turns", "exact", "read once"]


@dataclass(frozen=True)
class TableColumn:
    """A column that a metric has in a table of the documents.

    Attributes:
        table: the table. ``stand-in`` has the columns that the main table shows instead of an
            absent metric (``Metric.stands_in_for``); ``paper`` has the columns of the LaTeX table.
        place: the sort key; columns are shown in ascending order.
        title: the heading, with the unit.
        form: what a cell shows: the value; the value and its spread; the value, with ``~`` if it
            is noisy; or a list in which equal neighbours are written once.
        short: the heading on a terminal; if empty, the terminal does not show the column.
        ratio: whether a column of ratios to the reference follows.
        ranked: whether the best value is marked, in tables that mark best values.
    """

    table: TableName
    place: int
    title: str
    _: KW_ONLY
    form: CellForm = "value"
    short: str = ""
    ratio: bool = False
    ranked: bool = True


@dataclass(frozen=True)
class PageColumn:
    """A metric's column on the interactive page.

    Attributes:
        group: the group of the column's switch.
        place: the sort key; columns are shown in ascending order.
        title: the heading, with the unit.
        shown: whether the column is shown when the page opens.
        over: the heading of the column of ratios; empty if there is no such column.
        over_shown: whether the column of ratios is shown when the page opens.
        ranked: whether the best value is marked.
    """

    group: str
    place: int
    title: str
    _: KW_ONLY
    shown: bool = False
    over: str = ""
    over_shown: bool = False
    ranked: bool = True


@dataclass(frozen=True)
class FigurePart:
    """How a figure shows a metric.

    Attributes:
        figure: the figure's name. ``accuracy`` and ``batch`` are drawn once for each metric that
            names them; every other figure is drawn once and shows all metrics that name it.
        axis: the metric's name on the axis or in the legend.
        file: the last part of the figure's file name, if the metric has its own figure.
        caption: the metric's name in the caption; if empty, ``axis`` is used.
        place: the sort key of the metrics in one figure, in ascending order.
    """

    figure: FigureName
    axis: str
    _: KW_ONLY
    file: str = ""
    caption: str = ""
    place: int = 0


@dataclass(frozen=True)
class Judgement:
    """How 'compare' judges a metric of two rows.

    Attributes:
        kind: ``by seed``: by the difference per seed (only the test accuracy); ``in turns``: by
            the ratio per round; ``exact``: by the ratio of two numbers without spread;
            ``read once``: by the ratio of two numbers that vary slightly from run to run.
        place: the sort key; metrics are shown in ascending order.
    """

    kind: JudgementKind
    place: int


@dataclass(frozen=True)
class ClaimLine:
    """How the page of BSR's claims uses a metric.

    Attributes:
        claim: the claim that the metric tests.
        words: the metric's name on the page.
        place: the sort key; lines are shown in ascending order.
    """

    claim: Literal["memory", "compute"]
    words: str
    place: int


@dataclass(frozen=True)
class Metric:
    """What a number means, where it comes from and where it is shown.

    Attributes:
        unit: the unit in which records store the number.
        direction: whether lower or higher values are better.
        definition: the definition that reports print.
        display: the unit in which documents print the number.
        measured_by: the passes that can measure it; the first one measures it in a complete trial.
            Empty if the metric is derived from other metrics.
        samples: whether the value is a list of numbers.
        per: what each number of the list belongs to; empty if all are samples of one quantity.
        values: the valid values; a share lies between 0 and 1.
        needs: what a trial must have so that the metric can be measured.
        rate_of: for images per second: the metric in seconds from which it is derived.
        stands_in_for: documents show this metric if that metric has no value.
        part: the category of the counted peak that it measures; empty for other metrics.
        words: the metric's name in the sentences of a summary; if empty, summaries omit it.
        judged: how the metric compares two rows; ``None`` if it does not.
        tables: its columns in documents.
        page: its column on the interactive page.
        figures: the figures that show it.
        claim: its line on the page of claims.
        csv_ratio: whether ``comparison.csv`` has its ratios to the reference and the baseline.
    """

    unit: str
    direction: Direction
    definition: str
    _: KW_ONLY
    display: UnitName
    measured_by: tuple[Pass, ...] = ()
    samples: bool = False
    per: Literal["", "block", "task", "reading"] = ""
    values: Values = "not negative"
    needs: tuple[Need, ...] = ()
    rate_of: str = ""
    stands_in_for: str = ""
    part: str = ""
    words: str = ""
    judged: Judgement | None = None
    tables: tuple[TableColumn, ...] = ()
    page: PageColumn | None = None
    figures: tuple[FigurePart, ...] = ()
    claim: ClaimLine | None = None
    csv_ratio: bool = False

    def is_timed(self) -> bool:
        """Return whether it is measured in a round group, or derived from such a metric."""
        return self.measured_by[:1] in {("clock",), ("cpu_time",)} or bool(self.rate_of)

    def is_by_seed(self) -> bool:
        """Return whether a training run measures it, so that it has one value per seed."""
        return self.measured_by[:1] == ("training",)

    def is_judged(self, kind: JudgementKind) -> bool:
        """Return whether 'compare' judges it in this way."""
        return self.judged is not None and self.judged.kind == kind

    def column(self, table: TableName) -> TableColumn | None:
        """Return its column in a table; ``None`` if it has none there."""
        return next((column for column in self.tables if column.table == table), None)
