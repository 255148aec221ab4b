"""The question a search answers, and the trials it may ask for."""

from collections.abc import Callable
from dataclasses import dataclass

from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe, Training
from bsrbench.harness.spec.trial_spec import TrialSpec

TUNING_SEED = 1000  # as 'bsrbench tune' has it: no seed of a result
SHORT = 4  # a short training has a quarter of the steps

Do = Callable[[list[TrialSpec]], list[TrialRecord]]


@dataclass(frozen=True)
class SearchQuestion:
    """What is looked for, and with how much effort.

    Attributes:
        recipe: how candidates are trained.
        rates: learning rates, the same for every setting.
        seeds: of the last trainings.
        memory_bytes: the budget.
        first: settings to train at first, and again among the neighbours of the best.
        whole: settings to train for all steps.
        finalists: settings to measure.
        rows: rows to train with every seed.
        seed: draws which settings come first.
    """

    recipe: Recipe
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    memory_bytes: int
    first: int
    whole: int = 4
    finalists: int = 3
    rows: int = 5
    seed: int = 0

    def fits(self, cost: StepCost) -> bool:
        """Return whether a candidate is predicted to stay within the budget."""
        return not cost.reason and cost.peak_bytes <= self.memory_bytes

    def short(self) -> Recipe:
        """Return the recipe of a short training."""
        changes = {
            "steps": max(1, self.recipe.steps // SHORT),
            "warmup_steps": self.recipe.warmup_steps // SHORT,
        }
        return self.recipe.model_copy(update=changes)


def training_of(row: TrialSpec, recipe: Recipe, rate: float, seed: int) -> TrialSpec:
    """Return the trial that trains a row by a recipe and reads the validation split at its end."""
    settings = recipe.model_dump() | {"learning_rate": rate, "evaluate_every": None}
    final = min(settings["final_learning_rate"], rate)
    training = Training(
        **settings | {"final_learning_rate": final}, tries=(), evaluate="validation"
    )
    return row.model_copy(update={"profile": None, "training": training, "seed": seed})


def accuracy_of(record: TrialRecord) -> float | None:
    """Return the validation accuracy a training reached; ``None`` if it did not complete."""
    value = record.measurements.get("validation_accuracy_top1")
    return value if isinstance(value, float) else None


def best_of(tries: tuple[LearningRateTry, ...]) -> LearningRateTry | None:
    """Return the try of highest accuracy, of equals that of the smallest rate."""
    done = [one for one in tries if one.validation_accuracy is not None]
    return max(done, key=lambda t: (t.validation_accuracy, -t.learning_rate), default=None)
