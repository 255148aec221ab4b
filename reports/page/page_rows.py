"""The data of one row on the interactive page: values, samples for ratios, texts."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from bsrbench.harness.records.metric_bounds import CURVE
from bsrbench.harness.records.metrics import METRICS
from bsrbench.harness.records.remarks import AbsenceKind
from bsrbench.harness.records.sidecar import Sidecar, unexplained_bytes
from bsrbench.harness.records.trial_record import Status, TrialRecord
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.reports import units
from bsrbench.reports.compare.comparison_row import ComparisonRow
from bsrbench.reports.compare.record_numbers import numbers
from bsrbench.reports.compare.repeated_timings import RepeatedTimes
from bsrbench.reports.compare.seed_pairing import counted, tested
from bsrbench.reports.compare.shared_training import trains_as
from bsrbench.reports.compare.statistics import Summary, mean_and_range, median_and_quartiles
from bsrbench.reports.figures.contrast_colours import legible
from bsrbench.reports.figures.row_looks import colour_of_row
from bsrbench.reports.page.page_columns import (
    MACHINE,
    NUMBERS,
    OPTIONS,
    RATE,
    SEEDS,
    STATUS,
    TOKENS,
    UNEXPLAINED_BYTES,
    NumberColumn,
)
from bsrbench.reports.wording.columns import as_row, tokens

BACKGROUNDS = ("#ffffff", "#171a1f")  # light and dark; page.css has the same two
NOT_FINITE = "the value is not a finite number"


def samples(record: TrialRecord, metric: str) -> list[float]:
    """Return a record's finite numbers for a metric: none, one, or all samples."""
    return _finite(numbers(record, metric))


def _finite(values: Iterable[float]) -> list[float]:
    return list(filter(math.isfinite, map(float, values)))


def row_data(row: ComparisonRow, detail: Sidecar, groups: Mapping[str, int]) -> dict[str, Any]:
    """Return the data of a row for the table and the figures of the page.

    Args:
        row: the row.
        detail: the sidecar of the row's profile; empty if the page omits it.
        groups: the index of each round group of all rows.
    """
    return {
        "label": row.label,
        "colour": mark_colours(row),
        "values": [_number(row, column, detail) for column in NUMBERS],
        "texts": _texts(row),
        "reasons": row.failures(),
        "group": groups.get(row.round_group() or ""),
        "visits": visits(row),
        "again": {str(groups[turns.group]): visits(row, turns) for turns in row.again},
        "planned": {
            str(groups[name]): planned
            for name, turns in row.turns().items()
            if (planned := row.planned_generations(turns))
        },
        "curves": _curves(row.records),
        "keys": [[record.key, role(record)] for record in row.records],
    }


def mark_colours(row: ComparisonRow) -> list[str]:
    """Return the colour of a row's marks on the light and on the dark page."""
    return [legible(colour_of_row(row), behind) for behind in BACKGROUNDS]


def role(record: TrialRecord) -> str:
    """Return a text with the purpose of a trial: profile, training, or both."""
    parts = []
    if record.spec.profile:
        parts.append("profile")
    if record.spec.training:
        parts.append(f"training, seed {record.spec.seed}")
    return " and ".join(parts)


def round_groups(rows: Iterable[ComparisonRow]) -> dict[str, int]:
    """Return the indices of the round groups in which rows were timed, newest first."""
    finished: dict[str, str] = {}
    for turns in (turns for row in rows for turns in row.turns().values()):
        finished[turns.group] = max(turns.finished_at, finished.get(turns.group, ""))
    newest = sorted(finished, key=lambda group: (finished[group], group), reverse=True)
    return {group: place for place, group in enumerate(newest)}


def visits(
    row: ComparisonRow, turns: RepeatedTimes | None = None
) -> dict[str, dict[str, list[float]]]:
    """Return the times of each process generation, for each timed metric that has a ratio.

    Args:
        row: the row.
        turns: the round group; by default the row's own.
    """
    metrics = [column.metric for column in NUMBERS if column.timed and column.over]
    return {
        metric: {str(number): list(times) for number, times in generations.items()}
        for metric in metrics
        if (generations := row.generations(metric, turns))
    }


def missing(row: ComparisonRow) -> dict[str, str]:
    """Return why metrics have no value, from the trial that should have measured them."""
    reasons_by_metric: dict[str, str] = {}
    for column in NUMBERS:
        if column.metric not in METRICS or _finite(row.samples().get(column.metric, ())):
            continue
        reasons = [r.missing[column.metric] for r in row.records if column.metric in r.missing]
        asked = [why for why in reasons if why.kind is not AbsenceKind.NOT_REQUESTED]
        reasons_by_metric[column.metric] = next(
            (why.in_words() for why in asked or reasons), NOT_FINITE
        )
    return reasons_by_metric


def _number(row: ComparisonRow, column: NumberColumn, detail: Sidecar) -> list[float] | None:
    """Return centre, low, high, count and noisy (0 or 1); only the centre if it is exact."""
    if column.metric == UNEXPLAINED_BYTES:
        rest = unexplained_bytes(detail)
        return None if rest is None else [rest]
    every = row.samples().get(column.metric)
    if every is None:
        return None
    of_samples = METRICS[column.metric].samples
    finite = _finite(every)
    summary = median_and_quartiles(finite) if of_samples else mean_and_range(finite)
    if summary is None:
        return None
    if summary.low == summary.high and not of_samples:
        return [_whole(summary.centre)]
    return _spread(summary, noisy=of_samples and summary.noisy())


def _spread(summary: Summary, *, noisy: bool) -> list[float]:
    return [*map(_whole, (summary.centre, summary.low, summary.high)), summary.count, int(noisy)]


def _whole(number: float) -> float:
    """Return a whole number as an integer, which is shorter in JSON."""
    return int(number) if number == number // 1 else number


def _texts(row: ComparisonRow) -> dict[str, list[Any]]:
    """Return the text of each text column with its sort key."""
    seeds = tested(row)
    statuses = {r.outcome.status for r in row.records} - {Status.COMPLETED}
    counts = row.by_block(TOKENS)
    return {
        STATUS: [", ".join(sorted(statuses)) or units.NOTHING, len(statuses)],
        **_axes(row.spec.workload),
        TOKENS: [tokens(counts), sum(counts)],
        RATE: _learning_rate(row),
        SEEDS: [counted(seeds), len(seeds) or None],
        OPTIONS: _sorted_by_itself(json.dumps(row.spec.options) if row.spec.options else ""),
        MACHINE: _sorted_by_itself(row.records[0].environment.machine_id),
    }


def _axes(workload: Workload) -> dict[str, list[Any]]:
    return {
        "precision": _sorted_by_itself(workload.precision),
        "micro_batch": [
            str(workload.micro_batch or "whole batch"),
            workload.micro_batch or workload.batch,
        ],
        "compiled_step": _sorted_by_itself("compiled" if workload.compiled_step else "eager"),
        "optimizer_in_backward": _sorted_by_itself(
            "during backward" if workload.optimizer_in_backward else "after backward"
        ),
        "optimizer": _sorted_by_itself(workload.optimizer_in_words()),
    }


def _sorted_by_itself(text: str) -> list[Any]:
    return [text or units.NOTHING, text]


def _learning_rate(row: ComparisonRow) -> list[Any]:
    spec = row.trained()
    if spec is None or spec.training is None:
        same = trains_as(row)
        return [as_row(same) if same else units.NOTHING, None]
    rate = spec.training.learning_rate
    return [units.learning_rate(rate) + ("" if spec.training.tries else " (not tuned)"), rate]


def _curves(records: Iterable[TrialRecord]) -> list[list[list[float]]]:
    """Return the curve of each seed: steps, seconds and validation accuracies."""
    read = [[samples(record, name) for name in CURVE] for record in records]
    return [curve for curve in read if all(curve)]
