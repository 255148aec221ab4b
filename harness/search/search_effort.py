"""Choose how many settings a search trains, from the time that it may take."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bsrbench.harness.files import read_json, write_whole
from bsrbench.harness.launch.forecasting.forecast_inputs import PASS_SECONDS
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search.search_question import SHORT, SearchQuestion
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.spec.trial_spec import Workload

LEAST = 4  # minimum number of settings
MOST = 2**32  # exclusive bound for a stored number of settings
GENERATIONS = 2  # generations of short trainings: the first settings, and their neighbours
MEASURED_STEPS = 60  # time to measure a row, in steps
FORWARD = 0.4  # evaluation time per image divided by its training time, at most


def first_settings(
    goal: SearchQuestion,
    workload: Workload,
    costs: list[StepCost],
    images: int,
    flop_per_second: float,
    seconds: float,
) -> int:
    """Return the number of settings in each generation of short trainings.

    Args:
        goal: the question of the search, with the numbers of its other trainings.
        workload: the workload.
        costs: predicted costs of the settings.
        images: images in the validation split, which each training evaluates once.
        flop_per_second: speed of the device.
        seconds: time for the whole search.
    """
    step = sorted(cost.step_flop for cost in costs)[len(costs) // 2] / flop_per_second
    reading = images / workload.batch * FORWARD * step
    steps, rates = goal.recipe.steps, len(goal.rates)
    short = PASS_SECONDS + reading + steps / SHORT * step
    whole = PASS_SECONDS + reading + steps * step
    fixed = (goal.whole + 1) * rates * whole  # with the published setting
    fixed += (goal.rows + 1) * len(goal.seeds) * whole
    fixed += goal.finalists * 6 * (PASS_SECONDS * 4 + MEASURED_STEPS * step)
    left = seconds - fixed
    return max(LEAST, int(left / (GENERATIONS * rates * short)))


def remembered(path: Path, question: dict[str, Any], decide: Callable[[], int]) -> int:
    """Return the stored decision for the same question; without one, decide and store it.

    A search that is run again must train the same settings, even if the speed of a shared machine
    has changed.
    """
    name = digest(question)
    try:
        kept = read_json(path)
        if kept["question"] == name and type(kept["first"]) is int and 0 < kept["first"] < MOST:
            return int(kept["first"])
    except (OSError, ValueError, LookupError, TypeError):
        pass
    first = decide()
    write_whole(path, json.dumps({"question": name, "first": first}) + "\n")
    return first
