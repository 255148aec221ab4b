"""The columns that the interactive page offers: metrics, their ratios, settings."""

from dataclasses import asdict, dataclass
from typing import Any

from bsrbench.harness.records.metrics import AT_PEAK, METRICS
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


def _memory(metric: str, title: str, over: str = "", *, shown: bool = False) -> NumberColumn:
    return NumberColumn(metric, f"{title} MiB", units.mebibytes, "Memory", shown, over, shown)


def _time(
    metric: str, title: str, unit: DisplayUnit, over: str = "", *, shown: bool = False
) -> NumberColumn:
    return NumberColumn(
        metric, f"{title} {unit.name}", unit, "Time and energy", shown, over, shown, timed=True
    )


def _result(
    metric: str, title: str, unit: DisplayUnit, *, shown: bool = False, ranked: bool = True
) -> NumberColumn:
    return NumberColumn(metric, title, unit, "Result", shown, ranked=ranked, by_seed=True)


NUMBERS = (
    _result("accuracy_top1", "accuracy", units.share, shown=True),
    _result("busiest_experts_share", "busiest experts' share", units.share, ranked=False),
    _result("final_loss", "final loss", units.plain),
    # Trainings are not timed in turns: none is called the fastest.
    _result("training_seconds", "training s", units.seconds, ranked=False),
    _memory("peak_counted_bytes", "counted", "counted", shown=True),
    _memory("workspace_bytes", "workspace"),
    _memory("peak_allocated_bytes", "allocated", "allocated"),
    NumberColumn(UNEXPLAINED_BYTES, "unexplained B", units.count, "Memory"),
    _memory("peak_reserved_bytes", "reserved", "reserved"),
    _memory("peak_process_bytes", "process", "process"),
    _memory("residual_bytes", "residual"),
    _memory("peak_first_step_bytes", "first step", "first step"),
    _memory("held_after_forward_bytes", "held after forward", "held after forward"),
    _memory("peak_estimated_bytes", "estimated", "estimated"),
    NumberColumn("estimate_error", "estimate's error", units.percent, "Memory"),
    _memory("paper_convention_bytes", "paper convention", "paper convention"),
    *(
        NumberColumn(
            f"{category}_at_peak_bytes",
            f"{category.replace('_', ' ')} at peak MiB",
            units.mebibytes,
            "Memory at the counted peak",
        )
        for category in AT_PEAK
    ),
    NumberColumn("step_flop", "step GFLOP", units.gigaflop, "Work", True, "step FLOP", True),
    NumberColumn("forward_flop", "forward GFLOP", units.gigaflop, "Work", False, "forward FLOP"),
    NumberColumn("forward_macs", "forward GMAC", units.gigamacs, "Work"),
    NumberColumn("trained_parameters", "trained M", units.millions, "Work", True, "trained"),
    NumberColumn("total_parameters", "all parameters M", units.millions, "Work"),
    _time("step_seconds", "step", units.milliseconds, "step time", shown=True),
    _time("forward_seconds", "forward", units.milliseconds, "forward time"),
    _time("backward_seconds", "backward", units.milliseconds, "backward time"),
    _time("optimizer_seconds", "optimizer", units.milliseconds, "optimizer time"),
    _time("evaluation_seconds", "evaluation", units.milliseconds, "evaluation time"),
    _time("images_per_second", "images", units.rate),
    _time("evaluation_images_per_second", "evaluation images", units.rate),
    _time("joules_per_image", "energy an image", units.joules, "energy"),
    NumberColumn("compile_seconds", "compile s", units.seconds, "Time and energy", timed=True),
)

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
