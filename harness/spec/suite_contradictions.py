"""Say which settings of a suite contradict each other, and what to set instead."""

from collections.abc import Iterable, Mapping, Sequence

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.frozen_data import named_twice
from bsrbench.harness.spec.recipe import Recipe
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.suite_question import Question
from bsrbench.harness.spec.trial_spec import TrialSpec

Rows = Sequence[tuple[str, SuiteMethod]]  # with their labels, or their keys of ``chosen``


def require_equal_tries(rows: Rows) -> None:
    """Check that every row has as many learning rates to try, and as many tried, as the others.

    Raises:
        ValueError: a row has more than another, names a rate twice, or has tries and no choice.
    """
    for label, row in rows:
        _require_once(f"to_try of {label}", row.to_try)
        if row.tries and row.learning_rate is None:
            raise ValueError(
                f"{label} has tries, and no learning_rate that was chosen from them: set "
                "learning_rate, or leave out tries"
            )
    for what in ("to_try", "tries"):
        _require_equal(what, [(label, len(getattr(row, what))) for label, row in rows])


def require_equal_choices(rows: Rows, question: Question) -> None:
    """Check that a question's own learning rates come from as many tries for every row.

    Raises:
        ValueError: they do not, or a rate to try is named twice.
    """
    _require_once("to_try of a question", question.to_try)
    tries = [(label, question.chosen.get(label, row).tries) for label, row in rows]
    _require_equal("tries", [(label, len(of_row)) for label, of_row in tries])


def _require_equal(what: str, counts: Sequence[tuple[str, int]]) -> None:
    if len({count for _, count in counts}) > 1:
        listed = ", ".join(f"{label} {count}" for label, count in counts)
        raise ValueError(f"every row gets the same number of {what}, got {listed}")


def _require_once(what: str, rates: Sequence[float]) -> None:
    """Check that no learning rate is named twice: it is tried once, and would count as two."""
    if twice := [f"{rate:g}" for rate in named_twice(rates)]:
        raise ValueError(f"{what} names {', '.join(twice)} more than once")


def require_effect(trials: Iterable[TrialSpec]) -> None:
    """Check that each training is long enough for what its recipe does at certain steps.

    Not a rule of the recipe itself: records of such trainings may exist, and stay readable.

    Raises:
        BadInput: one is not; the message says what to set.
    """
    for trial in trials:
        if trial.training is not None:
            _require_long_enough(trial.training)


def _require_long_enough(recipe: Recipe) -> None:
    steps, warmup, every = recipe.steps, recipe.warmup_steps, recipe.evaluate_every
    if warmup > steps:
        raise BadInput(
            f"training.warmup_steps = {warmup} is more than training.steps = {steps}, so the "
            f"learning rate would never reach its peak: set warmup_steps to {steps} or less, or "
            f"steps to {warmup} or more"
        )
    if every is not None and every > steps:
        raise BadInput(
            f"training.evaluate_every = {every} is more than training.steps = {steps}, so the "
            f"validation split would never be read: set evaluate_every to {steps} or less, or "
            f"steps to {every} or more"
        )


def require_rates_above(final: float, rates: Sequence[float], label: str) -> None:
    """Check that no learning rate to try lies below the one that trainings end with.

    Raises:
        BadInput: one does.
    """
    if low := [f"{rate:g}" for rate in rates if rate < final]:
        raise BadInput(
            f"to_try of {label} names {', '.join(low)}, below training.final_learning_rate = "
            f"{final:g}: leave out these rates, or set final_learning_rate to less"
        )


def require_reach(
    settings: Mapping[str, object], vary: Mapping[str, object], questions: Sequence[Question]
) -> None:
    """Check that nothing in a suite replaces what a person has set for the whole of it.

    Args:
        settings: dotted keys and the values they were set to.
        vary: what the suite varies.
        questions: what it asks.

    Raises:
        BadInput: some trials would have another value all the same.
    """
    for key, value in settings.items():
        table, _, name = key.partition(".")
        if table == "workload" and name in vary:
            raise BadInput(
                f"{key} was set, and [vary] gives {name} its values: set vary.{name} instead"
            )
        own = [_replaced(question, table).get(name, value) for question in questions]
        if other := [str(number) for number, kept in enumerate(own, 1) if kept != value]:
            raise BadInput(
                f"{key} was set for all questions, but in [[questions]] number {', '.join(other)} "
                f"of {len(questions)} {name} has a value of its own: change it in a copy of the "
                "file"
            )


def _replaced(question: Question, table: str) -> Mapping[str, object]:
    """Return the keys of a table that a question replaces, and their values."""
    return {"workload": question.workload, "training": question.training}.get(table, {})
