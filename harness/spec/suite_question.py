"""One of several questions of a suite, and the learning rates chosen for it."""

from typing import Annotated, Any

from pydantic import Field

from bsrbench.harness.spec.frozen_data import Frozen, Rate
from bsrbench.harness.spec.recipe import LearningRateTry


class LearningRateChoice(Frozen):
    """A learning rate that was chosen for one row of one question, and how.

    Attributes:
        learning_rate: the choice.
        tries: what it was chosen from.
    """

    learning_rate: Rate
    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()


class Question(Frozen):
    """One workload with its recipe, among several of a suite.

    Attributes:
        workload: keys that replace the suite's.
        training: keys that replace the suite's.
        to_try: learning rates that ``bsrbench tune`` tries for every row, instead of the rows' own.
        chosen: what it found, by the rows' labels, in which the axes of the suite's workload go
            without saying.
    """

    workload: dict[str, Any] = {}
    training: dict[str, Any] = {}
    to_try: Annotated[tuple[Rate, ...], Field(strict=False)] = ()
    chosen: dict[str, LearningRateChoice] = {}
