"""The table of optimizers: where the memory of a step is, and each row relative to AdamW."""

from bsrbench.reports import units
from bsrbench.reports.compare.comparison import Comparison
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.optimizer_rows import (
    REFERENCE_OPTIMIZER,
    label_with_optimizer,
    ratio_of_values,
    with_references,
)
from bsrbench.reports.compare.seed_pairing import ACCURACY
from bsrbench.reports.compare.time_ratios import ratio_of_times
from bsrbench.reports.wording.columns import CONFIDENCE_TEXT, no_value, ratio_with_interval

STEP, PEAK = "step_seconds", "peak_counted_bytes"
OVER = f"× {REFERENCE_OPTIMIZER}"
TITLE = f"Optimizers, relative to the same row with {REFERENCE_OPTIMIZER}"
# Parts of the counted peak with a column of their own; the last column of parts has all others.
PARTS = ("weights", "gradients", "optimizer", "saved_activations", "temporaries")
TITLES = (
    "method",
    *(f"{part.replace('_', ' ')} MiB" for part in PARTS),
    *("other MiB", "counted MiB", OVER),
    *("step ms", f"{OVER} [{CONFIDENCE_TEXT}]", "optimizer ms", "accuracy"),
)
SHORT = ("method", "optimizer MiB", "counted MiB", OVER, "step ms", f"{OVER} [{CONFIDENCE_TEXT}]")


def sections(comparison: Comparison) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, headings and rows of the table; no table without rows of other optimizers."""
    pairs = with_references(comparison)
    if not any(row.profiled() for row, _ in pairs):
        return []
    return [(TITLE, list(TITLES), [_cells(row, reference) for row, reference in pairs])]


def short_section(comparison: Comparison) -> tuple[str, list[str], list[list[str]]] | None:
    """Return the same table with the columns for which a terminal has room."""
    places = [TITLES.index(title) for title in SHORT]
    for title, _, rows in sections(comparison):
        return title, list(SHORT), [[cells[place] for place in places] for cells in rows]
    return None


def _cells(row: ComparisonRow, reference: ComparisonRow) -> list[str]:
    return [
        label_with_optimizer(row),
        *(units.mebibytes(row.value(f"{part}_at_peak_bytes")) for part in PARTS),
        units.mebibytes(_others(row)),
        units.mebibytes(row.value(PEAK)),
        units.ratio(ratio_of_values(PEAK, row, reference)),
        units.milliseconds(row.value(STEP)),
        ratio_with_interval(ratio_of_times(STEP, row, reference)),
        units.milliseconds(row.value("optimizer_seconds")),
        no_value(row, ACCURACY) or units.share(row.value(ACCURACY)),
    ]


def _others(row: ComparisonRow) -> float | None:
    """Return the bytes of the counted peak that are in none of the parts of the table."""
    peak = row.value(PEAK)
    parts = [row.value(f"{part}_at_peak_bytes") for part in PARTS]
    known = [size for size in parts if size is not None]
    return None if peak is None or len(known) < len(parts) else peak - sum(known)
