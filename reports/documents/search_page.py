"""The result of a search as a page and a figure."""

from pathlib import Path

from bsrbench.harness.files import write_whole
from bsrbench.harness.spec.search_result import SearchResult, TriedSetting
from bsrbench.reports import units
from bsrbench.reports.compare.search_rows import MeasuredRow, measured
from bsrbench.reports.compare.seed_pairing import named
from bsrbench.reports.figures import search_figure
from bsrbench.reports.figures.search_figure import CAPTION, FIGURE
from bsrbench.reports.wording.markdown_syntax import escape, lines, table_of

PAGE = "search.md"
ROW_TITLES = [
    *("row", "counted MiB", "× published", "step ms", "× published [95 %]", "step GFLOP"),
    *("validation accuracy [least, most]", "on the Pareto front", "better than published"),
]
LOST = "A row with a training that did not complete is not compared with the others."
TRIED_TITLES = [
    *("options", "predicted MiB", "step GFLOP"),
    *("accuracy, short training", "accuracy, whole training", "learning rate"),
]


def write(result: SearchResult, folder: Path) -> list[str]:
    """Write ``search.md`` and the figure ``front`` into a search's folder.

    Returns:
        The result, in sentences.
    """
    rows = measured(result, folder)
    sentences = _summary(result, rows)
    parts = [f"# Search over {escape(result.method)}", *map(escape, sentences), _table(rows)]
    if search_figure.write(result, rows, folder):
        parts.append(f"![{CAPTION}]({FIGURE}.png)\n\n*{CAPTION}*")
    lost = [LOST] if any(row.lost for row in rows) else []
    parts += lines("How it was searched", [*_how(result), *lost])
    tried = sorted(
        result.tried, key=lambda setting: -(setting.accuracy or setting.short_accuracy or 0)
    )
    parts += ["### Settings that were trained", table_of(TRIED_TITLES, list(map(_tried, tried)))]
    write_whole(folder / PAGE, "\n\n".join(parts) + "\n")
    return sentences


def _summary(result: SearchResult, rows: list[MeasuredRow]) -> list[str]:
    published = rows[0]
    better = [row for row in rows[1:] if row.beats(published)]
    workload = result.workload
    size = f" at {workload.image_size} px" if workload.image_size else ""
    first = (
        f"{result.settings} settings of {result.method}, {result.candidates} candidates with "
        f"companions and micro-batches, on {workload.model}{size} and {workload.data}, batch "
        f"{workload.batch}; {result.fitting} are predicted to fit into "
        f"{units.mebibytes(result.memory_bytes)} MiB. {len(result.tried)} settings were trained, "
        f"{len(rows)} rows measured in turns, and "
        f"{sum(bool(r.accuracies) and not r.lost for r in rows)} of them "
        f"trained with {units.seeds(len(result.seeds))}. Accuracies are of the validation split; "
        "the test split was not read."
    )
    if published.lost:
        return [first, f"No row is compared with {_unpaired(published)}."]
    if not better:
        none = f"No row needs less memory and time than {published.found.label} as published"
        return [first, f"{none} at no lower accuracy."]
    return [
        first,
        f"Less memory and less time than {published.found.label} as published, at no "
        "lower mean validation accuracy: " + "; ".join(map(_better, better)) + ".",
    ]


def _unpaired(row: MeasuredRow) -> str:
    """Return a text that names a row and its seeds whose training did not complete."""
    return f"{row.found.label}, whose training with {named(row.lost)} did not complete"


def _better(row: MeasuredRow) -> str:
    accuracy = row.accuracy()
    return (
        f"{row.found.label} ({units.mebibytes(row.counted_bytes())} MiB, "
        f"{units.ratio(row.time())} the time, {units.share(accuracy.centre if accuracy else None)})"
    )


def _table(rows: list[MeasuredRow]) -> str:
    base = rows[0].counted_bytes()
    return table_of(ROW_TITLES, [_row(row, rows[0], base) for row in rows])


def _row(row: MeasuredRow, published: MeasuredRow, base: float | None) -> list[str]:
    counted, step = row.counted_bytes(), row.profile.step_seconds() if row.profile else None
    flop = row.profile.value("step_flop") if row.profile else None
    return [
        row.found.label,
        units.mebibytes(counted),
        units.ratio(counted / base if counted and base else None),
        units.milliseconds(step.centre if step else None),
        _interval(row),
        units.gigaflop(flop),
        _range(row),
        "yes" if row.on_front else "",
        "yes" if row is not published and row.beats(published) else "",
    ]


def _interval(row: MeasuredRow) -> str:
    if row.ratio is None:
        return units.NOTHING
    ends = f" [{units.plain(row.ratio.low)}, {units.plain(row.ratio.high)}]"
    return units.ratio(row.ratio.centre) + (ends if row.ratio.low is not None else "")


def _range(row: MeasuredRow) -> str:
    accuracy = row.accuracy()
    lost = f" without {named(row.lost)}" if row.lost else ""
    if accuracy is None:
        return f"{units.NOTHING}{lost}"
    low, high = units.share(accuracy.low), units.share(accuracy.high)
    return f"{units.share(accuracy.centre)} [{low}, {high}]{lost}"


def _tried(setting: TriedSetting) -> list[str]:
    return [
        ", ".join(f"{name} {value}" for name, value in setting.options.items()),
        units.mebibytes(setting.peak_bytes),
        units.gigaflop(setting.step_flop),
        units.share(setting.short_accuracy),
        units.share(setting.accuracy),
        units.learning_rate(setting.learning_rate),
    ]


def _of_optimizer(result: SearchResult) -> str:
    """Return words that restrict a sentence to one optimizer, if several were searched."""
    several = len({setting.options.get("optimizer") for setting in result.tried}) > 1
    return "with the same optimizer " if several else ""


def _how(result: SearchResult) -> list[str]:
    refused = f"; {result.refused} could not be predicted" if result.refused else ""
    return [
        f"Memory and FLOPs of all candidates were predicted without execution{refused}.",
        (
            "First, settings over the range of FLOPs were trained for a quarter of the steps, then "
            "the neighbours of the settings on the front of memory, FLOPs and accuracy. After that "
            f"the best settings were trained for all {result.training.steps} steps. All settings "
            f"{_of_optimizer(result)}were trained with the same learning rates, on one seed."
        ),
        (
            "The best settings were measured with each companion and micro-batch that fits. The "
            "rows on the front of memory, time and accuracy were trained with every seed."
        ),
        (
            "Rows were chosen by their validation accuracy, so it is too optimistic. The suite "
            "next to this page reads the test split."
        ),
    ]
