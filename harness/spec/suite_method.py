"""One row of a suite: a method, its options and axes, and its learning rate."""

from typing import Annotated, Any

from pydantic import Field

from bsrbench.harness.spec.frozen_data import Count, Frozen, Rate
from bsrbench.harness.spec.optimizer_names import Optimizer
from bsrbench.harness.spec.optimizer_options import Momentum, OptimizerOptions
from bsrbench.harness.spec.recipe import LearningRateTry
from bsrbench.harness.spec.row_name import RowLabel, RowName
from bsrbench.harness.spec.trial_spec import Workload
from bsrbench.harness.spec.workload_axes import AXIS_KEYS, AxisValue, Precision, stated


class SuiteMethod(Frozen):
    """One row of the comparison: a method, its options and axes, and its learning rate.

    Attributes:
        method: a method, or several joined by ``+``.
        options: its options; for a composition, one table per part.
        micro_batch: overrides the workload's value, as do precision, compiled_step,
            optimizer_in_backward, optimizer, optimizer_options and momentum. A row with another
            optimizer does not take over the workload's ``optimizer_options``.
        trains_as: label of a row whose training is the same by construction; this row is then
            profiled and not trained.
        learning_rate: the chosen rate; ``None`` takes the suite's, and reports say "not tuned".
        to_try: learning rates that ``bsrbench tune`` tries.
        tries: the learning rates that ``bsrbench tune`` has tried, with their accuracies.
    """

    method: str
    options: dict[str, Any] = {}
    micro_batch: Count | None = None
    precision: Precision | None = None
    compiled_step: bool | None = None
    optimizer_in_backward: bool | None = None
    optimizer: Optimizer | None = None
    optimizer_options: OptimizerOptions | None = None
    momentum: Momentum | None = None
    trains_as: str | None = None
    learning_rate: Rate | None = None
    to_try: Annotated[tuple[Rate, ...], Field(strict=False)] = ()
    tries: Annotated[tuple[LearningRateTry, ...], Field(strict=False)] = ()

    def axes_on(self, workload: Workload) -> dict[str, AxisValue]:
        """Return the axes of the row on a workload: the row's values, or else the workload's."""
        return self.on(workload).axis_values()

    def on(self, workload: Workload) -> Workload:
        """Return the workload with the axes that this row overrides."""
        own = {key: value for key in AXIS_KEYS if (value := getattr(self, key)) is not None}
        inherited = workload.model_dump()
        if own.get("optimizer", workload.optimizer) != workload.optimizer:
            del inherited["optimizer_options"]
        if self.optimizer_options is not None:
            own["optimizer_options"] = self.optimizer_options.stated()
        return Workload(**inherited | own)

    def name(self, workload: Workload) -> RowName:
        """Return the name that identifies the row on a workload."""
        return RowName.of(self.method, self.options, self.axes_on(workload))

    def label(self, workload: Workload) -> RowLabel:
        """Return the row's label, which leaves out the axes that are as in the workload."""
        axes = stated(self.axes_on(workload), workload.axis_values())
        return RowLabel(self.method, self.options, axes)
