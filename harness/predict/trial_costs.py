"""Predict one step of each of several trials in one process."""

from collections.abc import Sequence

from bsrbench.harness.errors import BadInput
from bsrbench.harness.method import Unsupported
from bsrbench.harness.predict.memory_budget import fitting
from bsrbench.harness.predict.step_cost import StepCost, step_cost
from bsrbench.harness.spec.trial_spec import TrialSpec
from bsrbench.harness.training.job import Loader
from bsrbench.harness.training.kept_storages import KeptStorages, census


def step_costs(specs: Sequence[TrialSpec], load: Loader) -> tuple[StepCost, ...]:
    """Predict trials in this process; return for each its cost, or why there is no prediction."""
    with census() as kept:
        return tuple(_cost_or_reason(spec, load, kept.fresh()) for spec in specs)


def _cost_or_reason(spec: TrialSpec, load: Loader, kept: KeptStorages) -> StepCost:
    try:
        return step_cost(spec, fitting(spec, load), kept)
    except (Unsupported, BadInput) as error:
        return StepCost(reason=str(error))
