"""How many settings a search trains, so that it takes about as long as it may."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bsrbench.harness.files import read_json, write_whole
from bsrbench.harness.launch.planning.forecast import PASS_SECONDS
from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search.search_question import SHORT, SearchQuestion
from bsrbench.harness.spec.frozen_data import digest
from bsrbench.harness.spec.trial_spec import Workload

LEAST = 4  # settings, however little time there is
MOST = 2**32  # settings; no search has as many
GENERATIONS = 2  # of short trainings: the first, and neighbours
MEASURED_STEPS = 60  # as long as what measures a row takes
FORWARD = 0.4  # of a step's work, or less: what reading an image's accuracy takes


def first_settings(
    goal: SearchQuestion,
    workload: Workload,
    costs: list[StepCost],
    images: int,
    flop_per_second: float,
    seconds: float,
) -> int:
    """Return how many settings a generation of short trainings may have.

    Args:
        goal: with what else is to be trained.
        workload: on which.
        costs: what settings take.
        images: of the validation split, which each training reads once.
        flop_per_second: the device's speed.
        seconds: that the search may take.
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
    """Return what was decided for the same question before, or decide and keep it.

    A search that is asked again must train the settings it trained before, on whatever a shared
    machine's speed is then.
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
