"""Find contradicting settings in a suite, and say what to set instead."""

from collections.abc import Iterable, Mapping, Sequence

from bsrbench.harness.errors import BadInput
from bsrbench.harness.spec.frozen_data import named_twice
from bsrbench.harness.spec.recipe import Recipe
from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.suite_question import Question
from bsrbench.harness.spec.trial_spec import TrialSpec

Rows = Sequence[tuple[str, SuiteMethod]]  # (label or key in ``chosen``, row)


def require_equal_tries(rows: Rows) -> None:
    """Check that all rows have the same number of learning rates to try, and of tried ones.

    Raises:
        ValueError: the numbers differ, a rate is listed twice, or a row has tries but no choice.
    """
    for label, row in rows:
        _require_once(f"to_try of {label}", row.to_try)
        if row.tries and row.learning_rate is None:
            raise ValueError(
                f"{label} has tries but no learning_rate that was chosen from them: set "
                "learning_rate, or leave out tries"
            )
    for what in ("to_try", "tries"):
        _require_equal(what, [(label, len(getattr(row, what))) for label, row in rows])


def require_equal_choices(rows: Rows, question: Question) -> None:
    """Check that a question's chosen learning rates come from equally many tries for every row.

    Raises:
        ValueError: the numbers differ, or a rate to try is listed twice.
    """
    _require_once("to_try of a question", question.to_try)
    tries = [(label, question.chosen.get(label, row).tries) for label, row in rows]
    _require_equal("tries", [(label, len(of_row)) for label, of_row in tries])


def _require_equal(what: str, counts: Sequence[tuple[str, int]]) -> None:
    if len({count for _, count in counts}) > 1:
        listed = ", ".join(f"{label} {count}" for label, count in counts)
        raise ValueError(f"every row must have the same number of {what}, got {listed}")


def _require_once(what: str, rates: Sequence[float]) -> None:
    """Check that no learning rate is listed twice: it would count as two tries."""
    if twice := [f"{rate:g}" for rate in named_twice(rates)]:
        raise ValueError(f"{what} names {', '.join(twice)} more than once")


def require_effect(trials: Iterable[TrialSpec]) -> None:
    """Check that each training is long enough for the warm-up and the curve of its recipe.

    The recipe itself does not check this, so that existing records of such trainings can be read.

    Raises:
        BadInput: a training is too short; the message says what to set.
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
    """Check that no learning rate to try is below the final learning rate.

    Raises:
        BadInput: one is.
    """
    if low := [f"{rate:g}" for rate in rates if rate < final]:
        raise BadInput(
            f"to_try of {label} lists {', '.join(low)}, below training.final_learning_rate = "
            f"{final:g}: remove these rates, or lower final_learning_rate"
        )


def require_reach(
    settings: Mapping[str, object], vary: Mapping[str, object], questions: Sequence[Question]
) -> None:
    """Check that no part of a suite overrides a value that the user has set for all of it.

    Args:
        settings: the dotted keys and values that the user has set.
        vary: the keys that the suite varies.
        questions: the questions of the suite.

    Raises:
        BadInput: some trials would have another value.
    """
    for key, value in settings.items():
        table, _, name = key.partition(".")
        if table == "workload" and name in vary:
            raise BadInput(
                f"{key} was set, but [vary] sets the values of {name}: set vary.{name} instead"
            )
        own = [_replaced(question, table).get(name, value) for question in questions]
        if overriding := [str(number) for number, kept in enumerate(own, 1) if kept != value]:
            raise BadInput(
                f"{key} was set for all questions, but [[questions]] number "
                f"{', '.join(overriding)} of {len(questions)} sets {name} "
                "itself: change it in a copy of the file"
            )


def _replaced(question: Question, table: str) -> Mapping[str, object]:
    """Return the keys of a table that a question replaces, and their values."""
    return {"workload": question.workload, "training": question.training}.get(table, {})
