"""The columns of the interactive page: metrics, ratios and settings."""

import operator
from dataclasses import asdict, dataclass
from typing import Any

from bsrbench.harness.records.metric import PageColumn
from bsrbench.harness.records.metrics import METRICS
from bsrbench.reports import units
from bsrbench.reports.compare.repeated_timings import TIMED_BY
from bsrbench.reports.units import DisplayUnit
from bsrbench.reports.wording.notes import UNEXPLAINED

UNEXPLAINED_BYTES = "unexplained_bytes"  # from the sidecar; not a metric of records
TOKENS = "tokens_after_block"


@dataclass(frozen=True)
class NumberColumn:
    """A metric's column.

    Attributes:
        metric: the name of the metric, used in ids and for definitions.
        title: the heading, with the unit.
        unit: the unit in which its numbers are printed.
        group: the group of columns in the controls.
        shown: whether it is shown when the page opens.
        over: the heading of the column of ratios; empty if there is no such column.
        over_shown: whether the column of ratios is shown when the page opens.
        timed: whether it is a time. Only rows of one round group are comparable.
        ranked: whether its best value is marked.
        by_seed: whether it has one value per trained seed. Only rows with the same seeds are
            comparable.
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
        """Return the definition of the column's numbers."""
        known = METRICS.get(self.metric)
        return known.definition if known else UNEXPLAINED

    def better(self) -> str:
        """Return which values are better: lower, higher or none."""
        known = METRICS.get(self.metric)
        return known.direction if known and self.ranked else "none"


@dataclass(frozen=True)
class TextColumn:
    """A column of text: a setting or an outcome.

    Attributes:
        name: its id.
        title: the heading.
        definition: the meaning of its cells.
        axis: whether it is an axis. An axis is shown when the page opens if rows differ in it.
        shown: whether it is always shown when the page opens.
        if_unlike: whether it is shown when the page opens if rows differ in it.
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


UNEXPLAINED_PLACE = 135  # after the allocated peak
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
    TextColumn(
        STATUS, "did not complete", "Outcomes of the trials that did not complete.", shown=True
    ),
    TextColumn(
        "precision", "precision", "fp32, or bf16 or fp16 autocast with fp32 weights.", axis=True
    ),
    TextColumn(
        "micro_batch",
        "micro-batch",
        "Images per forward pass; the gradients of several micro-batches are summed to one batch.",
        axis=True,
    ),
    TextColumn(
        "compiled_step",
        "execution",
        "How the model runs: compiled by torch.compile, or eager (operator by operator).",
        axis=True,
    ),
    TextColumn(
        "optimizer_in_backward",
        "optimizer steps",
        "Whether the optimizer updates parameters after the backward pass or during it.",
        axis=True,
    ),
    TextColumn("optimizer", "optimizer", "The optimizer and what is not its default.", axis=True),
    TextColumn(TOKENS, "tokens", METRICS[TOKENS].definition),
    TextColumn(
        RATE, "learning rate", "The peak of its schedule; '(not tuned)' if no other was tried."
    ),
    TextColumn(
        SEEDS,
        "seeds",
        "Number of tested seeds, and the seeds. If rows have different seeds, no accuracy is "
        "marked as the best and no Pareto front is drawn.",
        if_unlike=True,
    ),
    TextColumn(OPTIONS, "options", "Options of the method that the suite set."),
    TextColumn(MACHINE, "machine", "The machine on which the row was measured."),
)


def unit_data(unit: DisplayUnit) -> dict[str, Any]:
    """Return a unit as data for the page's formatter."""
    return asdict(unit)


def number_data(column: NumberColumn, place: int) -> list[dict[str, Any]]:
    """Return the data of a metric's column, and of the column of its ratio if there is one.

    Args:
        column: the column of the metric.
        place: the index of the metric in every row's ``values``.
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
    """Return the data of a column of text."""
    return {
        "id": column.name,
        "kind": "text",
        "title": column.title,
        "group": "Setting",
        "definition": column.definition,
        "better": "none",
        "shown": column.shown,
    }
