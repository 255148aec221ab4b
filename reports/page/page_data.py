"""The content of the interactive page as one JSON document."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bsrbench.harness.records.ratio_interval import (
    CONFIDENCE,
    FEWEST_GENERATIONS,
    QUICKEST_SHARE,
    WINDOW_SECONDS,
    t_quantile,
)
from bsrbench.harness.records.sidecar import NO_SIDECAR
from bsrbench.harness.visible_text import visible_json
from bsrbench.reports import units
from bsrbench.reports.compare.anchors import BASELINE, REFERENCE
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.excerpt import ON_PAGE, excerpt, share
from bsrbench.reports.figures.contrast_colours import legible
from bsrbench.reports.figures.figure_metrics import metrics_of
from bsrbench.reports.figures.palette import CATEGORY_COLOURS
from bsrbench.reports.page.page_columns import (
    NUMBERS,
    STATUS,
    TEXTS,
    TextColumn,
    number_data,
    text_data,
    unit_data,
)
from bsrbench.reports.page.page_details import SharedValues, blocks, peak_place, timeline, trials
from bsrbench.reports.page.page_rows import BACKGROUNDS, missing, round_groups, row_data
from bsrbench.reports.wording import notes, optimizer_table, report_tables

DETAILED_ROWS = 2000  # with more rows, a page with all details would be tens of megabytes
TIMELINES = 64  # about 10 kilobytes each
LISTED_LINES, LINE_LENGTH, TABLE_ROWS = 100, 400, 300  # report.md has the rest


@dataclass(frozen=True)
class Extent:
    """Which parts of the records the page contains.

    Attributes:
        rows: number of rows of all comparisons.
        shown: number of rows that the page contains.
        detailed: whether the page contains complete trials.
        every_timeline: whether the page contains the timeline of every row; if not, it contains
            those of the reference and the baseline.
    """

    rows: int
    shown: int
    detailed: bool
    every_timeline: bool

    @classmethod
    def of(cls, comparisons: list[Comparison], shown: list[Comparison]) -> "Extent":
        """Return the extent for the rows of these comparisons."""
        rows, shown_rows = (sum(len(c.rows) for c in part) for part in (comparisons, shown))
        return cls(rows, shown_rows, rows <= DETAILED_ROWS, rows <= TIMELINES)

    def said(self) -> str:
        """Return a note on what the page omits and where it is; empty if the page is complete."""
        if self.detailed:
            return ""
        kept = (
            ""
            if self.shown == self.rows
            else f" with {self.shown:,} rows (reference, baseline, Pareto front, then in order; "
            "comparison.csv has all rows)"
        )
        return (
            f"With {self.rows:,} rows (more than {DETAILED_ROWS:,}) this page has only the table"
            f"{kept}. Raw samples, specs, environments and memory per module are in the files "
            "of records/ and details/, to which each row links."
        )


def page_text(comparisons: list[Comparison], title: str) -> str:
    """Return the document as JSON that is safe inside a script element."""
    # JSON has no infinite numbers and no NaN; they become null.
    text = orjson.dumps(page_data(comparisons, title)).decode()
    return visible_json(text).replace("<", "\\u003c")  # a name cannot close the element


def page_data(comparisons: list[Comparison], title: str) -> dict[str, Any]:
    """Return the document."""
    most = share(ON_PAGE, comparisons)
    shown = [excerpt(comparison, most) for comparison in comparisons]
    extent = Extent.of(comparisons, shown)
    shared = SharedValues()
    parts = [_comparison(comparison, extent, shared) for comparison in shown]
    return {
        "title": title,
        "nothing": units.NOTHING,
        "confidence": CONFIDENCE,
        "fewestGenerations": FEWEST_GENERATIONS,
        "windowSeconds": WINDOW_SECONDS,
        "quickestShare": QUICKEST_SHARE,
        "quantiles": _quantiles(parts),
        "units": {
            name: unit_data(unit)
            for name, unit in (
                *(("memory", units.mebibytes), ("share", units.share)),
                *(("time", units.milliseconds), ("seconds", units.seconds), ("count", units.count)),
            )
        },
        "categories": [_category(name, colour) for name, colour in CATEGORY_COLOURS.items()],
        "columns": _columns(),
        "costs": list(metrics_of("accuracy")),
        "comparisons": parts,
        "shared": shared.values(),
        "leftOut": extent.said(),
        "provenance": notes.provenance(comparisons),
    }


def _comparison(comparison: Comparison, extent: Extent, shared: SharedValues) -> dict[str, Any]:
    groups = round_groups(comparison.rows)
    rows = [_row(comparison, row, extent, shared, groups) for row in comparison.rows]
    return {
        "title": comparison.title() if rows else "Nothing to compare",
        "summary": notes.summary(comparison),
        "baseline": _baseline(comparison),
        "reference": comparison.place(REFERENCE),
        "columns": _offered(rows),
        "rows": rows,
        "failures": listed(notes.failures(comparison)),
        "doubts": listed(notes.doubts(comparison)),
        "absences": listed(notes.absences(comparison)) if extent.detailed else [],
        "differences": listed(comparison.differences()),
        "tables": _tables(comparison),
    }


def _row(
    comparison: Comparison,
    row: ComparisonRow,
    extent: Extent,
    shared: SharedValues,
    groups: Mapping[str, int],
) -> dict[str, Any]:
    detail = comparison.detail(row) if extent.detailed else NO_SIDECAR
    data = row_data(row, detail, groups)
    if not extent.detailed:
        return data
    profile = row.profiled()
    named = comparison.leads(row)
    return data | {
        "missing": shared.places(missing(row)),
        "trials": trials(row, shared),
        "sidecar": profile.key if profile and detail != NO_SIDECAR else None,
        "blocks": blocks(detail),
        "peakPlace": peak_place(detail),
        "timeline": timeline(detail) if named or extent.every_timeline else None,
    }


def _columns() -> dict[str, dict[str, Any]]:
    """Return the data of every column by its id."""
    numbers = (data for place, column in enumerate(NUMBERS) for data in number_data(column, place))
    return {data["id"]: data for data in [*map(text_data, TEXTS), *numbers]}


def _offered(rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    """Return the ids of axes and of columns with a value, and which the page shows at first."""
    leading = [column for column in TEXTS if column.axis or column.name == STATUS]
    closing = [column for column in TEXTS if column not in leading]
    numbers = [
        (data["id"], data["shown"])
        for place, column in enumerate(NUMBERS)
        if any(row["values"][place] is not None for row in rows)
        for data in number_data(column, place)
    ]
    return [*_texts_offered(leading, rows), *numbers, *_texts_offered(closing, rows)]


def _texts_offered(columns: list[TextColumn], rows: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    offered = []
    for column in columns:
        values = {row["texts"][column.name][0] for row in rows}
        if column.axis or values - {units.NOTHING}:
            unlike = len(values - {units.NOTHING}) > 1
            follows = column.axis or column.if_unlike
            offered.append((column.name, column.shown or (follows and unlike)))
    return offered


def _tables(comparison: Comparison) -> list[dict[str, Any]]:
    """Return the fixed tables that follow the main table."""
    tables = [
        *report_tables.tasks(comparison),
        *optimizer_table.sections(comparison),
        *report_tables.curves(comparison),
        ("Learning rates tried", *report_tables.tries(comparison)),
    ]
    return [
        {
            "title": title if len(rows) <= TABLE_ROWS else f"{title} (first {TABLE_ROWS} rows)",
            "titles": titles,
            "rows": rows[:TABLE_ROWS],
        }
        for title, titles, rows in tables
        if rows
    ]


def _baseline(comparison: Comparison) -> int:
    """Return the index of the base of ratios: the baseline, the reference, or the first row."""
    places = (comparison.place(BASELINE), comparison.place(REFERENCE))
    return next((place for place in places if place is not None), 0)


def _category(name: str, colour: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": name.replace("_", " "),
        "colour": [legible(colour, background) for background in BACKGROUNDS],
    }


def _quantiles(parts: list[dict[str, Any]]) -> list[float | None]:
    """Return two-sided quantiles of Student's t; the index is the degrees of freedom."""
    counts = (
        len(generations)
        for part in parts
        for row in part["rows"]
        for visits in (row["visits"], *row["again"].values())
        for generations in visits.values()
    )
    most = max(counts, default=0)
    tail = (1 + CONFIDENCE) / 2
    return [None, *(t_quantile(tail, degrees) for degrees in range(1, most))]


def listed(lines: Iterable[str]) -> list[str]:
    """Return the first lines, shortened if they are long, with references to report.md."""
    every = list(lines)
    kept = [
        line if len(line) <= LINE_LENGTH else f"{line[:LINE_LENGTH]} … (whole in report.md)"
        for line in every[:LISTED_LINES]
    ]
    rest = len(every) - LISTED_LINES
    return [*kept, f"and {rest:,} more, in report.md"] if rest > 0 else kept
