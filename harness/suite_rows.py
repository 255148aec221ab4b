"""What a suite says of each row, and of each of several questions."""

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.frozen import Count, Frozen, Rate
from harness.recipe import LearningRateTry


class SuiteMethod(Frozen):
    """One row of the comparison: a method, its options, and how it was tuned.

    Attributes:
        method: a method, or several joined by ``+``.
        options: its options; of a composition, a table a part.
        micro_batch: overrides the workload's, as do precision, compiled_step and
            optimizer_in_backward.
        learning_rate: the choice; ``None`` takes the suite's, and reports say "not tuned".
        to_try: learning rates that ``bsrbench tune`` tries.
        tries: what it found.
    """

    method: str
    options: dict[str, Any] = {}
    micro_batch: Count | None = None
    precision: Literal["fp32", "bf16"] | None = None
    compiled_step: bool | None = None
    optimizer_in_backward: bool | None = None
    learning_rate: Rate | None = None
    to_try: Annotated[tuple[Rate, ...], Field(strict=False)] = ()
    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()


class Choice(Frozen):
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
        chosen: what it found, by the rows' labels.
    """

    workload: dict[str, Any] = {}
    training: dict[str, Any] = {}
    to_try: Annotated[tuple[Rate, ...], Field(strict=False)] = ()
    chosen: dict[str, Choice] = {}
