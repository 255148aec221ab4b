"""Choose the options of a method by predictions, so that a trial meets the method's budget."""

from copy import deepcopy
from typing import Any

from bsrbench.harness.method import Method, Unsupported, apply
from bsrbench.harness.model.vit import stored_blocks
from bsrbench.harness.predict.step_cost import step_cost
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.kept_storages import census
from bsrbench.harness.workload import models, tasks

NO_BATCH = (
    "the largest batch is searched without a budget of the method, because the budget would choose "
    "other options for each batch: leave out the budget and set the options themselves"
)


def fitting(spec: TrialSpec, load: Loader) -> Loader:
    """Return a loader of the trial's method whose options meet its budget.

    For a method without a budget it is ``load`` itself, and nothing is predicted.

    Args:
        spec: the trial.
        load: makes a method from its name.

    Raises:
        BadInput: the method or the workload names something that does not exist or does not fit.
        Unsupported: the budget cannot be met, or the step cannot be predicted.
    """
    method = load(spec.method, **spec.options)
    chosen = within_budget(spec, method)
    if chosen is method:
        return load

    def load_chosen(_name: str, **_options: Any) -> Method:
        return deepcopy(chosen)  # preparing a model may change the state of a method

    return load_chosen


def within_budget(spec: TrialSpec, method: Method) -> Method:
    """Return the method with options that meet its budget; itself if it has none.

    Raises:
        BadInput: the workload names something that does not exist or does not fit.
        Unsupported: the budget cannot be met, or the step cannot be predicted.
    """

    def predicted_peak(setting: Method) -> int:
        with census() as kept:
            return step_cost(spec, lambda *_, **__: deepcopy(setting), kept).limiting_bytes()

    def depth() -> int:
        model = models.outline(spec.workload, tasks.classes(spec.workload))
        return len(stored_blocks(apply(deepcopy(method), model)))

    return method.within(predicted_peak, depth)


def require_no_budget(method: Method) -> None:
    """Check that a method has no budget.

    Raises:
        Unsupported: it has one.
    """

    def refuse(*_: Method) -> int:
        raise Unsupported(NO_BATCH)

    method.within(refuse, refuse)
