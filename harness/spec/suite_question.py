"""One of several questions of a suite, and the learning rates chosen for it."""

from typing import Annotated, Any

from pydantic import Field

from bsrbench.harness.spec.frozen_data import Frozen, Rate
from bsrbench.harness.spec.recipe import LearningRateTry


class LearningRateChoice(Frozen):
    """The learning rate chosen for one row of one question, and the rates that were tried.

    Attributes:
        learning_rate: the chosen rate.
        tries: the rates that were tried.
    """

    learning_rate: Rate
    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()


class Question(Frozen):
    """One of a suite's workloads with its recipe.

    Attributes:
        workload: keys that replace those of the suite's workload.
        training: keys that replace those of the suite's recipe.
        to_try: learning rates that ``bsrbench tune`` tries for every row, instead of the rows' own.
        rows: labels of the rows that answer the question; by default, all. Labels leave out the
            axes that are as in the suite's workload.
        chosen: row label -> the learning rate that ``bsrbench tune`` chose, under the
            same labels.
    """

    workload: dict[str, Any] = {}
    training: dict[str, Any] = {}
    to_try: Annotated[tuple[Rate, ...], Field(strict=False)] = ()
    rows: Annotated[tuple[str, ...], Field(strict=False)] = ()
    chosen: dict[str, LearningRateChoice] = {}
