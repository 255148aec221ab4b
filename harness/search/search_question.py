"""The question that a search answers, and its training trials."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.records.trial_record import TrialRecord
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe, Training
from bsrbench.harness.spec.trial_spec import TrialSpec

TUNING_SEED = 1000  # the default of 'bsrbench tune'; results use other seeds
SHORT = 4  # a short training has a quarter of the steps

Do = Callable[[list[TrialSpec]], list[TrialRecord]]


@dataclass(frozen=True)
class SearchQuestion:
    """The goal of a search, and its effort.

    Attributes:
        recipe: the training recipe of candidates.
        rates: learning rates to try, the same for every setting with the workload's optimizer.
        seeds: seeds of the last trainings.
        memory_bytes: the memory budget.
        first: number of settings that are trained first; at most as many neighbours follow.
        whole: number of settings that are trained for all steps.
        finalists: number of settings that are measured.
        rows: number of rows that are trained with every seed.
        seed: seed of the random choice of the first settings.
        other_rates: as many learning rates for each other optimizer, by the optimizer in words.
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
    other_rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def rates_for(self, row: TrialSpec) -> tuple[float, ...]:
        """Return the learning rates to try for a row."""
        return self.other_rates.get(row.workload.optimizer_in_words(), self.rates)

    def fits(self, cost: StepCost) -> bool:
        """Return whether a candidate is predicted to fit in the budget."""
        return not cost.reason and cost.peak_bytes <= self.memory_bytes

    def short(self) -> Recipe:
        """Return the recipe of a short training."""
        changes = {
            "steps": max(1, self.recipe.steps // SHORT),
            "warmup_steps": self.recipe.warmup_steps // SHORT,
        }
        return self.recipe.model_copy(update=changes)


def training_of(row: TrialSpec, recipe: Recipe, rate: float, seed: int) -> TrialSpec:
    """Return the trial that trains a row and evaluates it on the validation split."""
    settings = recipe.model_dump() | {"learning_rate": rate, "evaluate_every": None}
    final = min(settings["final_learning_rate"], rate)
    training = Training(
        **settings | {"final_learning_rate": final}, tries=(), evaluate="validation"
    )
    return row.model_copy(update={"profile": None, "training": training, "seed": seed})


def accuracy_of(record: TrialRecord) -> float | None:
    """Return the validation accuracy of a training; ``None`` if it did not complete."""
    value = record.measurements.get("validation_accuracy_top1")
    return value if isinstance(value, float) else None


def best_of(tries: tuple[LearningRateTry, ...]) -> LearningRateTry | None:
    """Return the try with the highest accuracy; of equal accuracies, the smallest rate."""
    done = [rate_try for rate_try in tries if rate_try.validation_accuracy is not None]
    return max(done, key=lambda t: (t.validation_accuracy, -t.learning_rate), default=None)
