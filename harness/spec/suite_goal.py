"""A goal of a suite: a bound on the ratio of two rows."""

from typing import Annotated, Any

from pydantic import Field, model_validator

from bsrbench.harness.spec.frozen_data import Frozen, Name
from bsrbench.harness.spec.trial_spec import Workload


class Goal(Frozen):
    """A bound on one metric of a row, as a ratio to another row of the same question.

    Attributes:
        row: label of the row. It leaves out the axes that are as in the workload of its question.
        to: label of the row that its value is divided by.
        metric: name of the metric.
        at_most: the largest ratio that meets the goal.
        workload: keys of the workload that a question must have; by default, every question.
    """

    row: Name
    to: Name = "full"
    metric: Name = "step_seconds"
    at_most: Annotated[float, Field(gt=0)]
    workload: dict[str, Any] = {}

    @model_validator(mode="after")
    def _names_keys_of_a_workload(self) -> "Goal":
        if strange := [key for key in self.workload if key not in Workload.model_fields]:
            raise ValueError(
                f"the workload of a goal has no key {', '.join(strange)}; expected some of "
                f"{', '.join(Workload.model_fields)}"
            )
        return self

    def is_about(self, workload: Workload) -> bool:
        """Tell whether the goal is one of the question with this workload."""
        return all(getattr(workload, key) == value for key, value in self.workload.items())
