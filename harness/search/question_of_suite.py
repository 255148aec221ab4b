"""Make the question of a search from a suite."""

from collections.abc import Iterable

from bsrbench.harness.search.search_effort import LEAST
from bsrbench.harness.search.search_question import SearchQuestion
from bsrbench.harness.search.searched_optimizers import usual_rate
from bsrbench.harness.spec.recipe import Recipe
from bsrbench.harness.spec.suite import Suite
from bsrbench.harness.spec.trial_spec import Workload

# Factors of the recipe's learning rate to try, if the suite has no 'to_try'.
SHARES = (1 / 3, 1.0, 3.0)


def question_of(
    suite: Suite, method: str, workloads: Iterable[Workload], limit: int
) -> SearchQuestion:
    """Return the question of a search, with the smallest number of first settings.

    The learning rates of an optimizer are those that the suite tries in its row of the method. For
    an optimizer without such a row, those of the first one are scaled to its usual size.

    Args:
        suite: the suite with the recipe and the learning rates.
        method: the method that is searched.
        workloads: the workload with each optimizer; the first is the suite's.
        limit: the memory budget in bytes.
    """
    question = suite.questions[0]
    recipe = Recipe(**suite.recipe(question))
    first, *others = workloads
    rates = question.to_try or _rates(suite, method, first)
    rates = rates or tuple(share * recipe.learning_rate for share in SHARES)
    other_rates = {
        other.optimizer_in_words(): _rates(suite, method, other)
        or tuple(float(f"{rate * usual_rate(other) / usual_rate(first):.4g}") for rate in rates)
        for other in others
    }
    return SearchQuestion(recipe, rates, suite.seeds, limit, first=LEAST, other_rates=other_rates)


def _rates(suite: Suite, method: str, workload: Workload) -> tuple[float, ...]:
    """Return the rates of the method's row with an optimizer; of several rows, the plain one."""
    rows = [
        row
        for row in suite.methods
        if row.method == method
        and row.on(suite.workload).optimizer_in_words() == workload.optimizer_in_words()
    ]
    rows.sort(key=lambda row: len(row.options) + len(row.label(suite.workload).axes))
    return next((row.to_try for row in rows if row.to_try), ())
