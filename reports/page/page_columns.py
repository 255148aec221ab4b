"""The columns that the interactive page offers: metrics, their ratios, settings."""

import operator
from dataclasses import asdict, dataclass
from typing import Any

from bsrbench.harness.records.metric import PageColumn
from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports import units
from bsrbench.reports.compare.repeated_timings import TIMED_BY
from bsrbench.reports.units import DisplayUnit
from bsrbench.reports.wording.notes import UNEXPLAINED

UNEXPLAINED_BYTES = "unexplained_bytes"  # from the sidecar; no metric of a record
TOKENS = "tokens_after_block"


@dataclass(frozen=True)
class NumberColumn:
    """A metric's column.

    Attributes:
        metric: its name; ids and definitions go by it.
        title: the heading, unit included.
        unit: how its numbers are printed.
        group: under which the switch of the column stands.
        shown: whether it is on at first.
        over: the heading of its ratio's column; empty where none is offered.
        over_shown: whether that one is on at first.
        timed: whether the clock of a round group took it, so that only rows of one group compare.
        ranked: whether its best value is marked.
        by_seed: whether trainings give it, a value a seed, so that only rows of the same seeds
            compare.
    """

    metric: str
    title: str
    unit: DisplayUnit
    group: str
    shown: bool = False
    over: str = ""
    over_shown: bool = False
    timed: bool = False
    ranked: bool = True
    by_seed: bool = False

    def definition(self) -> str:
        """Return what its numbers mean."""
        known = METRICS.get(self.metric)
        return known.definition if known else UNEXPLAINED

    def better(self) -> str:
        """Return which way is better: lower, higher or none."""
        known = METRICS.get(self.metric)
        return known.direction if known and self.ranked else "none"


@dataclass(frozen=True)
class TextColumn:
    """A column of words: a setting or an outcome.

    Attributes:
        name: its id.
        title: the heading.
        definition: what stands in it.
        axis: whether it is an axis, which is on at first where rows differ in it.
        shown: whether it is on at first wherever it is offered.
        if_unlike: whether it, too, is on at first where rows differ in it.
    """

    name: str
    title: str
    definition: str
    axis: bool = False
    shown: bool = False
    if_unlike: bool = False


def _column(metric: str, column: PageColumn) -> NumberColumn:
    known = METRICS[metric]
    return NumberColumn(
        metric,
        column.title,
        units.of_metric(metric),
        column.group,
        shown=column.shown,
        over=column.over,
        over_shown=column.over_shown,
        timed=known.is_timed(),
        ranked=column.ranked,
        by_seed=known.is_by_seed(),
    )


UNEXPLAINED_PLACE = 135  # behind what was allocated
_PLACED = [
    *(
        (metric.page.place, _column(name, metric.page))
        for name, metric in METRICS.items()
        if metric.page
    ),
    (UNEXPLAINED_PLACE, NumberColumn(UNEXPLAINED_BYTES, "unexplained B", units.count, "Memory")),
]
NUMBERS = tuple(column for _, column in sorted(_PLACED, key=operator.itemgetter(0)))

STATUS, RATE, SEEDS, OPTIONS, MACHINE = "status", "learning_rate", "seeds", "options", "machine"
TEXTS = (
    TextColumn(STATUS, "did not complete", "How trials ended that did not complete.", shown=True),
    TextColumn("precision", "precision", "fp32, or bf16 autocast with fp32 weights.", axis=True),
    TextColumn(
        "micro_batch",
        "micro-batch",
        "Images a forward pass; gradients of several add up to the step's batch.",
        axis=True,
    ),
    TextColumn(
        "compiled_step",
        "execution",
        "Of the model: compiled by torch.compile, or eager, that is operator by operator.",
        axis=True,
    ),
    TextColumn(
        "optimizer_in_backward",
        "optimizer steps",
        "Whether parameters are stepped after the backward pass or during it.",
        axis=True,
    ),
    TextColumn(TOKENS, "tokens", METRICS[TOKENS].definition),
    TextColumn(RATE, "learning rate", "Its peak; '(not tuned)' where no others were tried."),
    TextColumn(
        SEEDS,
        "seeds",
        "How many trainings were tested, and their seeds. Where rows have different ones, no "
        "accuracy is called the best and no Pareto front is drawn.",
        if_unlike=True,
    ),
    TextColumn(OPTIONS, "options", "Options of the method that the suite set."),
    TextColumn(MACHINE, "machine", "Where the row was measured."),
)


def unit_data(unit: DisplayUnit) -> dict[str, Any]:
    """Return a unit as the page's formatter takes it."""
    return asdict(unit)


def number_data(column: NumberColumn, place: int) -> list[dict[str, Any]]:
    """Return a metric's column, and its ratio's behind it where there is one.

    Args:
        column: the metric.
        place: where the metric stands in every row's ``values``.
    """
    shared = {
        "metric": column.metric,
        "group": column.group,
        "definition": column.definition(),
        "timed": column.timed,
        "bySeed": column.by_seed,
        "timedBy": TIMED_BY.get(column.metric),
        "place": place,
    }
    plain = {
        "id": column.metric,
        "kind": "number",
        "title": column.title,
        "unit": unit_data(column.unit),
        "better": column.better(),
        "shown": column.shown,
    }
    over = {
        "id": f"{column.metric}/ratio",
        "kind": "ratio",
        "title": column.over,
        "unit": unit_data(units.ratio),
        "plain": unit_data(units.plain),
        "better": column.better(),
        "shown": column.over_shown,
    }
    return [shared | plain, *([shared | over] if column.over else [])]


def text_data(column: TextColumn) -> dict[str, Any]:
    """Return a column of words."""
    return {
        "id": column.name,
        "kind": "text",
        "title": column.title,
        "group": "Setting",
        "definition": column.definition,
        "better": "none",
        "shown": column.shown,
    }
