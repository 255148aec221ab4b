"""The results of a search: its report data, and a suite that runs its rows again."""

from pathlib import Path
from typing import Any

import tomlkit

from bsrbench.harness.files import write_whole
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search.search_question import SearchQuestion, best_of
from bsrbench.harness.search.search_space import Candidate, Space
from bsrbench.harness.search.search_stages import TriedSettings
from bsrbench.harness.spec.optimizer_names import optimizer_of_words
from bsrbench.harness.spec.search_result import SearchResult, SearchResultRow, TriedSetting
from bsrbench.harness.spec.trial_spec import Workload


def account(
    space: Space, costs: dict[str, StepCost], goal: SearchQuestion, tried: TriedSettings
) -> SearchResult:
    """Return the result of a search."""
    numbers, workload = list(tried.short), tried.rows[0].spec.workload
    known = [costs[candidate.row_id] for candidate in space.candidates]
    return SearchResult(
        method=space.method,
        workload=workload,
        training=goal.recipe,
        memory_bytes=goal.memory_bytes,
        seeds=goal.seeds,
        settings=len(space.settings),
        candidates=len(known),
        fitting=sum(goal.fits(cost) for cost in known),
        refused=sum(bool(cost.reason) for cost in known),
        tried=tuple(_setting(number, space, costs, tried) for number in numbers),
        rows=tuple(
            _row(row, numbers.index(row.setting), costs[row.row_id], record.key, tried, workload)
            for row, record in zip(tried.rows, tried.profiles, strict=True)
        ),
    )


def _setting(
    number: int, space: Space, costs: dict[str, StepCost], tried: TriedSettings
) -> TriedSetting:
    cost, short = costs[space.plain(number).row_id], best_of(tried.short[number])
    tries = tried.whole.get(number, ())
    best = best_of(tries)
    return TriedSetting(
        options=space.settings[number],
        peak_bytes=cost.peak_bytes,
        step_flop=cost.step_flop,
        short_accuracy=None if short is None else short.validation_accuracy,
        accuracy=None if best is None else best.validation_accuracy,
        learning_rate=None if best is None else best.learning_rate,
        tries=tries,
    )


def _row(
    row: Candidate,
    place: int,
    cost: StepCost,
    profile: str,
    tried: TriedSettings,
    published: Workload,
) -> SearchResultRow:
    words = row.spec.workload.optimizer_in_words()
    return SearchResultRow(
        setting=place,
        label=row.spec.label(published),
        method=row.spec.method,
        options=row.spec.options,
        micro_batch=row.spec.workload.micro_batch,
        optimizer="" if words == published.optimizer_in_words() else words,
        predicted_bytes=cost.peak_bytes,
        profile=profile,
        trainings=tried.trained.get(row.row_id, ()),
    )


def write_suite(result: SearchResult, path: Path) -> None:
    """Write a suite with the published setting and every row that was trained with all seeds.

    Running this suite reads the test split, which a search never does.
    """
    document: dict[str, Any] = {
        "description": f"Rows that a search over {result.method} found, and the published setting",
        "seeds": list(result.seeds),
        "workload": _without_defaults(result.workload),
        "training": _without_defaults(result.training),
        "profile": {"rounds": 3, "warmup_steps": 1},
        "methods": [_suite_row(row, result) for row in result.rows if row.trainings],
    }
    write_whole(path, tomlkit.dumps(document))


def _without_defaults(model: Any) -> dict[str, Any]:
    return dict(model.model_dump(mode="json", exclude_defaults=True, exclude_none=True))


def _suite_row(row: SearchResultRow, result: SearchResult) -> dict[str, Any]:
    tried = result.tried[row.setting]
    table: dict[str, Any] = {"method": row.method}
    if row.options:
        table["options"] = row.options
    if row.micro_batch is not None:
        table["micro_batch"] = row.micro_batch
    if row.optimizer:
        keys = optimizer_of_words(row.optimizer) or {}
        table |= {key: value for key, value in keys.items() if value is not None}
    return table | {
        "learning_rate": tried.learning_rate,
        "tries": [rate_try.model_dump(exclude_none=True) for rate_try in tried.tries],
    }
