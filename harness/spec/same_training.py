"""Rows of a suite that are not trained, because another row's training is the same."""

from collections.abc import Sequence

from bsrbench.harness.spec.suite_method import SuiteMethod
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.spec.workload_axes import axis_in_words

SAME_RESULT = ("micro_batch", "optimizer_in_backward")  # axes that change only how a step is done
OF_A_TRAINING = ("learning_rate", "to_try", "tries")


def require_reference(
    label: str, reference: SuiteMethod | None, sharing: Sequence[SuiteMethod], workload: Workload
) -> None:
    """Check that rows name a trained row whose axes allow the same training.

    Whether the methods allow it is checked when they are loaded.

    Args:
        label: the value of ``trains_as``.
        reference: the row that it names; ``None`` if there is no such row.
        sharing: the rows that name it.
        workload: the workload of the suite.

    Raises:
        ValueError: there is no such row, it is not trained itself, or a row cannot share it.
    """
    if reference is None:
        raise ValueError(f"trains_as names {label}, but there is no such row")
    if reference.trains_as is not None:
        raise ValueError(
            f"trains_as names {label}, which is not trained itself, because it has trains_as = "
            f"{reference.trains_as!r}: name a row that is trained"
        )
    for row in sharing:
        _require_shares(row, label, reference, workload)


def _require_shares(
    row: SuiteMethod, label: str, reference: SuiteMethod, workload: Workload
) -> None:
    own = row.label(workload)
    if stated := [key for key in OF_A_TRAINING if getattr(row, key)]:
        raise ValueError(
            f"{own} has trains_as and {', '.join(stated)}, but a row with trains_as is not "
            "trained: leave out one of the two"
        )
    axes, theirs = row.axes_on(workload), reference.axes_on(workload)
    for axis, value in axes.items():
        if axis not in SAME_RESULT and value != theirs[axis]:
            raise ValueError(
                f"{own} cannot have trains_as = {label!r}: it is trained with "
                f"{axis_in_words(axis, value)}, and {label} with "
                f"{axis_in_words(axis, theirs[axis])}, so the results differ: leave out trains_as"
            )


def require_both_parts(labels: Sequence[str], *, trains: bool, profiles: bool) -> None:
    """Check that a suite with rows that are only profiled trains and profiles.

    Args:
        labels: the values of ``trains_as``; empty if no row has one.
        trains: whether the suite has a recipe.
        profiles: whether the suite has a profile.

    Raises:
        ValueError: the rows would have nothing to do, or the setting has no effect.
    """
    if labels and not profiles:
        raise ValueError("a row with trains_as is only profiled: add [profile], or train the row")
    if labels and not trains:
        raise ValueError("trains_as has no effect without [training]: leave it out")


def require_reference_answers(
    label: str, question: int, rows: Sequence[SuiteMethod], reference: SuiteMethod | None
) -> None:
    """Check that a question has the row whose training its other rows share.

    Args:
        label: the value of ``trains_as``.
        question: the number of the question, from 1.
        rows: the rows that answer the question.
        reference: the row that ``label`` names; ``None`` if there is none.

    Raises:
        ValueError: the question does not have it.
    """
    if any(row.trains_as == label for row in rows) and not any(row is reference for row in rows):
        raise ValueError(
            f"question {question} has rows with trains_as = {label!r}, but not that row: add it"
        )
