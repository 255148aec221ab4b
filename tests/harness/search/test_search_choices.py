"""What a search takes for best, and what fits its budget."""

import pytest

from bsrbench.harness.predict.step_cost import StepCost
from bsrbench.harness.search.search_question import SearchQuestion, best_of
from bsrbench.harness.spec.recipe import LearningRateTry, Recipe


def tries(**accuracies):
    return tuple(
        LearningRateTry(
            learning_rate=float(rate.replace("_", "-").removeprefix("r")),
            validation_accuracy=accuracy,
        )
        for rate, accuracy in accuracies.items()
    )


def test_of_equal_tries_the_smallest_rate_is_best():
    found = best_of(tries(r1e_3=0.5, r1e_4=0.5, r1e_2=0.4))

    assert found.learning_rate == 1e-4


def test_the_best_try_is_the_most_accurate_and_one_that_failed_is_none():
    assert best_of(tries(r1e_4=0.4, r1e_3=0.6, r1e_2=None)).learning_rate == 1e-3
    assert best_of(tries(r1e_4=None)) is None


@pytest.mark.parametrize(
    ("cost", "expected"),
    [
        (StepCost(peak_bytes=100, step_flop=1), True),
        (StepCost(peak_bytes=101, step_flop=1), False),
        (StepCost(peak_bytes=1, step_flop=1, reason="no pair"), False),
    ],
)
def test_a_budget_is_what_may_be_taken(cost, expected):
    goal = SearchQuestion(
        Recipe(steps=8, learning_rate=1e-3), (1e-3,), (0,), memory_bytes=100, first=4
    )

    assert goal.fits(cost) is expected


def test_a_short_training_has_a_quarter_of_the_steps_and_of_the_warm_up():
    recipe = Recipe(steps=40, learning_rate=1e-3, warmup_steps=8)
    short = SearchQuestion(recipe, (1e-3,), (0,), memory_bytes=1, first=4).short()

    assert (short.steps, short.warmup_steps) == (10, 2)
