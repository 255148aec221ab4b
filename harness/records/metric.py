"""What the table of metrics says of each number: its meaning, its source, where it is shown."""

from dataclasses import KW_ONLY, dataclass
from typing import Literal

Direction = Literal["lower", "higher", "none"]
Pass = Literal["memory", "allocated", "process", "flops", "clock", "estimate", "training"]
# What a trial must have for a metric to be measured.
Need = Literal[
    "uncompiled step",
    "compiled step",
    "caching allocator",
    "several tasks",
    "experts",
    "curve",
    "test split",
    "validation split",
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
        table: which table. ``stand-in`` has what the main table shows in the place of another
            metric (``Metric.stands_in_for``), ``paper`` what LaTeX has room for.
        place: columns stand in ascending order of their places.
        title: its heading, unit included.
        form: what its cells show: the value; its spread beside it; ``~`` before a noisy value; a
            list with equal neighbours written once.
        short: its heading on a terminal; empty leaves it out there.
        ratio: whether a column of ratios to the reference stands behind it.
        ranked: whether the best value is marked, where the table marks any.
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
        group: under which the column's switch stands.
        place: columns stand in ascending order of their places.
        title: its heading, unit included.
        shown: whether it is switched on at first.
        over: the heading of the column of its ratio; empty where none is offered.
        over_shown: whether that one is switched on at first.
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
        figure: its name. ``accuracy`` and ``batch`` are drawn once for each metric that names
            them; each other figure is drawn once and shows all metrics that name it.
        axis: what the axis or the legend calls the metric.
        file: ends the name of the figure's files, where the metric has a figure of its own.
        caption: what the caption calls the metric; as the axis does where empty.
        place: metrics of one figure stand in ascending order of their places.
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
        kind: ``by seed``: by the difference, seed by seed (the test accuracy alone); ``in turns``:
            by the ratio, round by round; ``exact``: by the ratio of two numbers without spread;
            ``read once``: the same, of a number that does not come again to the byte.
        place: metrics stand in ascending order of their places.
    """

    kind: JudgementKind
    place: int


@dataclass(frozen=True)
class ClaimLine:
    """How the page of BSR's claims uses a metric.

    Attributes:
        claim: which claim is tested in it.
        words: what the page calls it.
        place: lines stand in ascending order of their places.
    """

    claim: Literal["memory", "compute"]
    words: str
    place: int


@dataclass(frozen=True)
class Metric:
    """What a number means, where it comes from and where it is shown.

    Attributes:
        unit: of the number as it is stored.
        direction: which way is better.
        definition: one sentence a reader of the report can check us by.
        display: the unit that documents print it in.
        measured_by: the passes that measure it, first the one that does so in a whole trial;
            none where it is derived from other metrics.
        samples: whether the value is a list of numbers.
        per: what each number of the list belongs to; empty where all are samples of one quantity.
        values: which values it may have; a share is at most 1 and not negative.
        needs: what a trial must have for it to be measured.
        rate_of: the metric of seconds that it is derived from, where it is images per second.
        stands_in_for: the metric in whose place documents show this one where that has no value.
        part: which part of the counted peak it is; empty for no part.
        words: what the sentences of a summary call it; empty leaves it out.
        judged: how two rows are compared in it; ``None`` where they are not.
        tables: its columns in documents.
        page: its column on the interactive page.
        figures: where it is drawn.
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
        """Tell whether the clock of a round group gives it, or the seconds that it is made of."""
        return self.measured_by[:1] == ("clock",) or bool(self.rate_of)

    def is_by_seed(self) -> bool:
        """Tell whether a training gives it, so that there is a value for each seed."""
        return self.measured_by[:1] == ("training",)

    def is_judged(self, kind: JudgementKind) -> bool:
        """Tell whether two rows are compared in it in this way."""
        return self.judged is not None and self.judged.kind == kind

    def column(self, table: TableName) -> TableColumn | None:
        """Return its column in a table."""
        return next((column for column in self.tables if column.table == table), None)
